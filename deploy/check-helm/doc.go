// Package check holds the chart of deploy/helm to what Helm and Kubernetes would say of
// it, without a cluster. It is a module of its own so that the product does not depend on
// Helm, Kubernetes, KEDA and the Prometheus operator; `make check-deploy` runs it.
package check

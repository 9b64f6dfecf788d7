// Package check drives the dashboard in a real Chromium against a real fleet: pushfleet's
// own processes and the APNs simulator. It is a module of its own so that the product does
// not depend on chromedp; `make check-page` runs it.
package check

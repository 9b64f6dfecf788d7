// Package config reads the configuration: one YAML file, then environment
// variables over it, then the files that secrets are kept in.
//
//	pushfleet.yaml --> tables.go (which keys, which values) --> Config
//	PUSHFLEET_…    --'        '--> every problem at once, with line and column
//	…_file         --'
//
// Its promise: what [Load] returns without a complaint is complete (defaults
// filled in) and consistent; otherwise everything that is wrong is said at
// once, and no secret is ever printed.
//
// tables.go is the one place that knows the keys. The reference in
// docs/configuration.md is written from it, and the example file is held
// against it, both by tests.
package config

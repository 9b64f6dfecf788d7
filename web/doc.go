// Package web is the dashboard: the files of a page that a browser gets from the HTTP
// API, and that asks the API for all that it shows, with the reader's API key.
//
//	GET /          -> page/index.html
//	GET /page/…    -> page/…          scripts, style, icon
//
// It is plain HTML, CSS and ES modules, embedded as they are: there is no build step, and
// nothing is asked of another host. The Content-Security-Policy holds it to that.
package web

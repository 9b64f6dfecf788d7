package api

import "github.com/pushfleet/pushfleet/web"

// servePage serves the dashboard's files. They need no API key: the page asks for one,
// and the routes for what it shows.
func (a *API) servePage() error {
	page, err := web.New()
	if err != nil {
		return err
	}
	for _, at := range page.Paths() {
		if at == "/" {
			at = "/{$}"
		}
		a.mux.Handle("GET "+at, page)
	}
	return nil
}

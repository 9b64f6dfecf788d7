package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// askSim asks a simulator's admin interface.
func askSim(ctx context.Context, method, url, body string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("ask simulator: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask simulator: %w", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("ask simulator: %w", err)
	}
	if resp.StatusCode/100 != 2 {
		return nil, fmt.Errorf("ask simulator: %s: %s", resp.Status, answer)
	}
	return answer, nil
}

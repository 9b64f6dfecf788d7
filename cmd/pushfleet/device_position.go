package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// writePosition keeps how far long work has come, so that it can go on from
// there: a file that is replaced as a whole.
func writePosition(path string, position any) error {
	text, err := json.Marshal(position)
	if err != nil {
		return fmt.Errorf("write position: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write position: %w", err)
	}
	_, err = f.Write(append(text, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
		return fmt.Errorf("write position: %w", err)
	}
	return nil
}

// readPosition reads what writePosition wrote, and reports whether there is any.
func readPosition(path string, position any) (bool, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil {
		err = json.Unmarshal(text, position)
	}
	if err != nil {
		return false, fmt.Errorf("read position: %s: %w", path, err)
	}
	return true, nil
}

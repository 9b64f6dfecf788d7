package api_test

import (
	"context"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/pushfleet/pushfleet/api"
	"github.com/pushfleet/pushfleet/store"
)

// documented are the codes that docs/api.md has, each with the statuses that it comes with.
func documented() (map[string][]int, error) {
	text, err := os.ReadFile(filepath.Join("..", "docs", "api.md"))
	if err != nil {
		return nil, err
	}
	codes := make(map[string][]int)
	row := regexp.MustCompile("(?m)^\\| ([0-9]{3}) \\| ((?:`[a-z_]+`(?:, )?)+) \\|")
	for _, m := range row.FindAllStringSubmatch(string(text), -1) {
		status, err := strconv.Atoi(m[1])
		if err != nil {
			return nil, err
		}
		for code := range strings.SplitSeq(m[2], ", ") {
			code = strings.Trim(code, "`")
			codes[code] = append(codes[code], status)
		}
	}
	return codes, nil
}

// TestCodesAreDocumented holds docs/api.md to the codes in problem.go.
func TestCodesAreDocumented(t *testing.T) {
	t.Parallel()
	docs, err := documented()
	if err != nil {
		t.Fatal(err)
	}
	file, err := parser.ParseFile(gotoken.NewFileSet(), "problem.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var codes []string
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 || !strings.HasPrefix(spec.Names[0].Name, "code") {
			return true
		}
		text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		codes = append(codes, text)
		return true
	})
	slices.Sort(codes)
	if want := slices.Sorted(maps.Keys(docs)); !slices.Equal(codes, want) || len(codes) < 20 {
		t.Errorf("codes in problem.go:\n%q, in docs/api.md:\n%q; want the same", codes, want)
	}
}

// A mistake of ours is answered, and told to the log alone.
func TestInternal(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *api.Config) {
		c.Keys = keysFunc(func(context.Context, string) (store.APIKey, bool, error) { panic("a bug") })
	})
	a := f.want(http.StatusInternalServerError, request{method: http.MethodGet, path: path("shop", 1)})
	p := into[api.Problem](t, a)
	if p.Code != "internal" || strings.Contains(string(a.text), "a bug") {
		t.Errorf("got %s, want the code internal, and not the cause", a.text)
	}
	logged := f.logs.FilterMessage("request failed").All()
	if len(logged) != 1 || logged[0].ContextMap()["request_id"] != p.RequestID || !strings.Contains(fmt.Sprint(logged[0].ContextMap()["error"]), "a bug") {
		t.Errorf("got the log %v, want the cause under the request's id", logged)
	}
}

// answered are the statuses and codes that requests of all tests were answered with.
var answered sync.Map

// provoked fails a whole run of the tests in which some documented code was never answered.
type provoked struct{ goleak.TestingM }

// Run implements [goleak.TestingM].
func (p provoked) Run() int {
	code := p.TestingM.Run()
	for _, part := range []string{"run", "skip", "list", "fuzz"} {
		if flag.Lookup("test."+part).Value.String() != "" {
			return code
		}
	}
	docs, err := documented()
	if err != nil || len(docs) == 0 {
		fmt.Println("docs/api.md: got no codes:", err)
		return 1
	}
	for name, statuses := range docs {
		for _, status := range statuses {
			if _, ok := answered.Load(fmt.Sprint(status, " ", name)); !ok {
				fmt.Printf("docs/api.md says %d %s: got it in no test, want it shown once\n", status, name)
				code = 1
			}
		}
	}
	return code
}

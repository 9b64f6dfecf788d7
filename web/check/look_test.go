package check_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// views are the fragments of all views, with what shows that they are there.
var views = []struct{ name, fragment, there string }{
	{"fleet", "#/fleet", `document.querySelector("[data-worker] td.n") && document.querySelectorAll("path.line").length === 3`},
	{"campaigns", "#/campaigns", `document.querySelector("tr[data-campaign=look-1] [role=progressbar]")`},
	{"campaign", "#/campaigns/demo/look-1", `document.querySelector("[aria-label=Results] tbody tr")`},
	{"dead-letters", "#/dead-letters", `document.querySelector("h1")?.innerText === "Dead letters" && !document.querySelector("main").innerText.includes("Asking")`},
	{"look-up", "#/look-up?app=demo&what=job&id=look-job&who=user&name=ada", `document.querySelector(".verdict") && document.querySelector("[aria-label=Recipients]")`},
}

// setupLook is a fleet with something in each view.
func setupLook(t *testing.T) *fleet {
	t.Helper()
	f := setup(t)
	f.devices(t, "100b0000", 3000, func(i int) string {
		if i == 0 {
			return "ada"
		}
		return ""
	})
	f.must(t, http.MethodPost, "/v1/apps/demo/campaigns", map[string]any{
		"id": "look-1", "audience": map[string]any{"all": true}, "rate": 300, "notification": map[string]any{"title": "x"},
	}, nil)
	f.must(t, http.MethodPost, "/v1/apps/demo/notifications", map[string]any{
		"id": "look-job", "to": map[string]any{"users": []string{"ada"}}, "notification": map[string]any{"title": "x"},
	}, nil)
	return f
}

// unreadable lists texts whose contrast with their ground is below 4.5 (WCAG 2.2, 1.4.3).
// What is disabled is exempt.
const unreadable = `(() => {
	const numbers = (c) => c.match(/[\d.]+/g).map(Number);
	const over = (top, under) => {
		const a = top[3] ?? 1;
		return [0, 1, 2].map((i) => top[i] * a + under[i] * (1 - a));
	};
	const light = (c) => {
		const [r, g, b] = c.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
		return 0.2126 * r + 0.7152 * g + 0.0722 * b;
	};
	const ground = (el) => {
		const layers = [];
		for (let e = el; e; e = e.parentElement) {
			const c = numbers(getComputedStyle(e).backgroundColor);
			if ((c[3] ?? 1) > 0) layers.push(c);
			if ((c[3] ?? 1) === 1) break;
		}
		return layers.reverse().reduce((under, c) => over(c, under), [255, 255, 255]);
	};
	const wrong = new Map();
	const look = (el, text, color) => {
		const under = ground(el);
		const [a, b] = [light(over(numbers(color), under)), light(under)].sort((x, y) => y - x);
		const ratio = (a + 0.05) / (b + 0.05);
		if (ratio < 4.5) wrong.set(color + " on " + under.map(Math.round), ratio.toFixed(2) + " " + text.trim().slice(0, 30));
	};
	const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	let seen = 0;
	while (walk.nextNode()) {
		const el = walk.currentNode.parentElement;
		const text = walk.currentNode.data;
		if (!text.trim() || !el.checkVisibility() || el.closest(":disabled, .unseen, noscript, title")) continue;
		seen++;
		look(el, text, getComputedStyle(el).color);
	}
	for (const input of document.querySelectorAll("input[placeholder]")) look(input, input.placeholder, getComputedStyle(input, "::placeholder").color);
	if (seen < 5) return ["only " + seen + " texts were seen"];
	return [...wrong].map(([pair, what]) => what + " (" + pair + ")");
})()`

// unlabelled lists controls that have no name.
const unlabelled = `[...document.querySelectorAll("input, select, button, a[href], [role=progressbar], svg[role=img]")].filter((el) => el.checkVisibility())
	.filter((el) => !(el.getAttribute("aria-label") || el.labels?.length || (el.matches("button, a") && el.innerText.trim()) || el.getAttribute("aria-labelledby")))
	.map((el) => el.outerHTML.slice(0, 80))`

// In both themes, on a wide window and on a telephone, everything can be read, and nothing
// is cut off at the side.
func TestLook(t *testing.T) {
	f := setupLook(t)
	p := open(t, f, f.admin, "#/fleet")
	for _, theme := range []string{"light", "dark"} {
		for _, size := range []struct {
			name          string
			width, height int64
		}{{"wide", 1280, 860}, {"narrow", 360, 740}} {
			p.look(size.width, size.height, theme)
			for _, v := range views {
				p.goTo(v.fragment)
				p.until(v.name, v.there)
				name := fmt.Sprintf("%s-%s-%s", v.name, theme, size.name)
				if wrong := eval[[]string](p, unreadable); len(wrong) > 0 {
					t.Errorf("%s: contrast below 4.5: %q", name, wrong)
				}
				if wide := eval[int64](p, `document.documentElement.scrollWidth`); wide > size.width {
					t.Errorf("%s: got %d pixels across, want %d at most", name, wide, size.width)
				}
				if wrong := eval[[]string](p, unlabelled); len(wrong) > 0 {
					t.Errorf("%s: controls without a name: %q", name, wrong)
				}
				p.shoot(name)
			}
		}
	}
	if dark, want := eval[string](p, `getComputedStyle(document.body).backgroundColor`), "rgb(18, 21, 26)"; dark != want {
		t.Errorf("dark: got a ground of %s, want %s", dark, want)
	}
}

// The sign-in, too.
func TestSignInLook(t *testing.T) {
	f := setup(t)
	p := open(t, f, "", "")
	for _, theme := range []string{"light", "dark"} {
		p.look(360, 740, theme)
		p.until("the form", `document.querySelector("input[name=key]")`)
		wrong := eval[[]string](p, unreadable)
		if wide := eval[int64](p, `document.documentElement.scrollWidth`); len(wrong) > 0 || wide > 360 {
			t.Errorf("%s: got %q, and %d pixels across", theme, wrong, wide)
		}
		p.shoot("sign-in-" + theme)
	}
}

// Every control is reached by Tab, in the order in which it is seen, and is seen to be
// where the focus is.
func TestKeyboard(t *testing.T) {
	f := setupLook(t)
	p := open(t, f, f.admin, "#/fleet")
	for _, v := range views {
		p.goTo(v.fragment)
		p.until(v.name, v.there)
		want := eval[int](p, `(() => {
			document.activeElement.blur();
			getSelection().collapse(document.body, 0);
			window.reached = new Set();
			window.controls = () => [...document.querySelectorAll("a[href], button:not(:disabled), input:not(:disabled), select, summary, [tabindex='0']")].filter((el) => el.checkVisibility());
			return controls().length;
		})()`)
		if want < 6 {
			t.Fatalf("%s: got %d controls, want more", v.name, want)
		}
		var wrong []string
		for range want + 5 {
			p.do(chromedp.KeyEvent(kb.Tab))
			// The ring itself: that of :focus-visible, and not nothing.
			if bad := eval[string](p, `(() => {
				const el = document.activeElement;
				if (el === document.body) return "";
				reached.add(el);
				const style = getComputedStyle(el);
				return style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2 ? "" : el.outerHTML.slice(0, 80);
			})()`); bad != "" {
				wrong = append(wrong, bad)
			}
		}
		if len(wrong) > 0 {
			t.Errorf("%s: focus is not seen on %q", v.name, wrong)
		}
		if missed := eval[[]string](p, `controls().filter((el) => !reached.has(el)).map((el) => el.outerHTML.slice(0, 80))`); len(missed) > 0 {
			t.Errorf("%s: Tab does not reach %q", v.name, missed)
		}
	}
	// The first Tab leads past the navigation, and stays in the view.
	p.do(chromedp.Reload())
	p.until("the view again", `document.querySelector("nav")`)
	p.do(chromedp.KeyEvent(kb.Tab))
	if at := eval[string](p, `document.activeElement.className`); at != "skip" {
		p.fail("the first Tab: got to %q, want the link that skips", at)
	}
	p.do(chromedp.KeyEvent(kb.Enter))
	p.until("the focus in the content", `document.activeElement.id === "view" && document.querySelector("h1").innerText === "Why did it not arrive?"`)
	// A change is told to who does not see it.
	if live := eval[bool](p, `document.querySelector("#said[aria-live=polite]") !== null`); !live {
		t.Error("there is no live region")
	}
}

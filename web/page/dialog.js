// Questions before something is done.

import { h, render } from "./dom.js";
import { fault } from "./parts.js";

// ask shows a dialog and does what it asks about once that is confirmed: act gets the
// value of the field, if there is one, and a function to tell how far it is; what goes
// wrong is shown in the dialog. The result is whether it was done.
export function ask({ title, text, field, confirm, danger, act }) {
  return new Promise((resolve) => {
    const opener = document.activeElement;
    const dialog = document.createElement("dialog");
    document.body.append(dialog);
    let busy = false;
    let done = false;
    let problem = null;
    let input;
    let told = "";

    const submit = async (event) => {
      event.preventDefault();
      if (busy || (field && !input.reportValidity())) return;
      busy = true;
      problem = null;
      draw();
      try {
        await act(field ? input.value : undefined, (text) => {
          told = text;
          draw();
        });
        done = true;
        dialog.close();
      } catch (err) {
        problem = err;
      }
      busy = false;
      draw();
    };
    const draw = () => render(dialog, h("form", { method: "dialog", onsubmit: submit },
      h("h2", { id: "question" }, title),
      text.map((t, i) => h("p", { key: i }, t)),
      field && h("label", { class: "field" }, h("span", null, field.label),
        h("input", { ...field.input, made: (el) => { input = el; el.value = field.value; } })),
      fault(problem),
      h("p", { class: "note", role: "status" }, busy ? told || "…" : ""),
      h("div", { class: "buttons" },
        h("button", { type: "button", onclick: () => dialog.close() }, "Keep it as it is"),
        h("button", { type: "submit", class: danger ? "danger" : "primary", disabled: busy }, confirm))));
    dialog.setAttribute("aria-labelledby", "question");
    dialog.addEventListener("close", () => {
      dialog.remove();
      if (opener?.isConnected) opener.focus();
      resolve(done);
    });
    draw();
    dialog.showModal();
  });
}

// sheet shows something to read.
export function sheet(title, ...content) {
  const opener = document.activeElement;
  const dialog = document.createElement("dialog");
  dialog.className = "sheet";
  dialog.setAttribute("aria-labelledby", "sheet");
  document.body.append(dialog);
  render(dialog,
    h("header", null, h("h2", { id: "sheet" }, title), h("button", { type: "button", onclick: () => dialog.close() }, "Close")),
    ...content);
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (opener?.isConnected) opener.focus();
  });
  dialog.showModal();
}

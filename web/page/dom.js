// Elements from descriptions. A view says what should be there, each time anew; render
// changes what differs, so that focus, selections and open details stay.

const SVG = "http://www.w3.org/2000/svg";
const slots = new WeakMap(); // element -> what it has, by slot

// h describes an element: h("p", {class: "note"}, "text", h("b", null, "more")). Of a list,
// each has a key. Properties: on… are listeners, style is an object of CSS properties,
// value and checked are set where they change; made(element) is called once. All others are
// attributes; false and null leave them out.
export function h(tag, props, ...children) {
  return { tag, props: props ?? {}, key: props?.key, children };
}

// render makes the children of an element what is described.
export function render(element, ...children) {
  patchChildren(element, children, false);
}

function flatten(children) {
  const list = [];
  let plain = 0; // those without a key are told apart by their place
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false || child === true) {
      plain++;
      continue;
    }
    const node = typeof child === "object" ? child : { tag: "#text", text: String(child), props: {}, children: [] };
    node.slot = node.key === undefined ? plain++ : "key " + node.key;
    list.push(node);
  }
  return list;
}

function patchChildren(element, children, svg) {
  const was = slots.get(element) ?? new Map();
  const now = new Map();
  const list = flatten(children);
  for (const node of list) {
    const old = was.get(node.slot);
    if (old && old.tag === node.tag && !now.has(node.slot)) {
      was.delete(node.slot);
      node.element = old.element;
      patch(node, old, svg);
    } else {
      create(node, svg);
    }
    now.set(node.slot, node);
  }
  for (const gone of was.values()) gone.element.remove();
  let before = element.firstChild;
  if (!slots.has(element)) {
    while (element.firstChild) element.firstChild.remove(); // what the document had
    before = null;
  }
  for (const node of list) {
    if (node.element === before) before = before.nextSibling;
    else element.insertBefore(node.element, before);
  }
  slots.set(element, now);
}

function create(node, svg) {
  if (node.tag === "#text") {
    node.element = document.createTextNode(node.text);
    return;
  }
  const inside = svg || node.tag === "svg";
  node.element = inside ? document.createElementNS(SVG, node.tag) : document.createElement(node.tag);
  patchChildren(node.element, node.children, inside);
  setProps(node.element, node.props, {}); // after the options of a select
  node.props.made?.(node.element);
}

function patch(node, old, svg) {
  if (node.tag === "#text") {
    if (node.text !== old.text) node.element.data = node.text;
    return;
  }
  patchChildren(node.element, node.children, svg || node.tag === "svg");
  setProps(node.element, node.props, old.props);
}

function setProps(element, props, old) {
  for (const name of new Set([...Object.keys(old), ...Object.keys(props)])) {
    const value = props[name];
    if (name === "key" || name === "made") continue;
    if (name === "checked") {
      if (element.checked !== Boolean(value)) element.checked = Boolean(value);
    } else if (value === old[name]) {
      continue;
    } else if (name.startsWith("on")) {
      element[name] = value ?? null;
    } else if (name === "value") {
      element.value = value ?? "";
    } else if (name === "style") {
      for (const key of Object.keys(value ?? {})) element.style.setProperty(key, value[key]);
    } else if (value === null || value === undefined || value === false) {
      element.removeAttribute(name);
    } else {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
}

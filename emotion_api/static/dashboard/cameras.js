/** Lists of cameras: one tab stop for a whole list, and a search by name and id. */

const TYPED_TOGETHER = 800; // milliseconds between two letters of one word

/**
 * Makes the links of a list one tab stop: the arrow keys, Home and End lead from link to link, and letters lead to the
 * next name that begins with them. Returns a function to call after each change of the list.
 */
export function roving(list) {
  let current = null;
  let typed = "";
  let typedAt = -Infinity;

  const links = () => [...list.querySelectorAll("li:not([hidden]) > a")];

  function enter(link) {
    if (current === link) return;
    current?.setAttribute("tabindex", "-1");
    current = link;
    current?.setAttribute("tabindex", "0");
  }

  function next(event) {
    const all = links();
    const place = all.indexOf(document.activeElement);
    const places = { ArrowDown: place + 1, ArrowUp: place - 1, Home: 0, End: all.length - 1 };
    if (event.key in places) return all[places[event.key]];
    if (event.key.length !== 1 || event.key === " ") return undefined;
    typed = event.timeStamp - typedAt < TYPED_TOGETHER ? typed + event.key : event.key;
    typedAt = event.timeStamp;
    const from = typed.length > 1 ? place : place + 1; // the same letter again leads to the next name
    const inOrder = [...all.slice(from), ...all.slice(0, from)];
    return inOrder.find((link) => folded(link.querySelector(".name").textContent).startsWith(folded(typed)));
  }

  list.addEventListener("focusin", (event) => enter(event.target.closest("a")));
  list.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const link = next(event);
    if (!link) return;
    event.preventDefault();
    link.focus();
  });

  return function tidy() {
    if (current?.isConnected && !current.parentElement.hidden) return;
    enter(list.querySelector("li:not([hidden]) > a"));
  };
}

/** Whether each word of a search stands in a camera's name or id. */
export function isFound({ device_name: name, device_id: id }, search) {
  const text = folded(`${name} ${id}`);
  return folded(search).split(/\s+/).every((word) => text.includes(word));
}

/** A text for comparisons, without case and accents. */
function folded(text) {
  return text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase().trim();
}

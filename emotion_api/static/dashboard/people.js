/** The people of a camera: who is in view now and in which mood, and who was seen before. */

import { byId, element, setText } from "./dom.js";
import { EMOTIONS, NAMES, face, shares } from "./emotions.js";
import { age, duration, inOrder, number, percent, plural } from "./format.js";
import { places } from "./places.js";
import { stackedBar } from "./totals.js";

/** How many people are asked for, without and with "Show all". One more tells whether there are more. */
export const SHOWN = 100;
export const ALL = 1000;

/** How many cards there are before "Show all". */
const CARDS = 12;

/** In view is a person of the newest batch whose seconds have grown within this time. */
const ACTIVE_MILLISECONDS = 10_000;

const NOT_STORED = "People are not stored here: there is nothing to show of each of them.";

/** `showAll` is called with whether the visitor wants to see all people in view. */
export function people(showAll) {
  const bar = stackedBar(byId("mood-bar"));
  let showsAll = false;
  let cards;
  let inPlaces;
  let draw = () => {};
  clear();

  byId("show-all").addEventListener("click", () => {
    showsAll = !showsAll;
    showAll(showsAll);
    draw();
  });
  byId("before").addEventListener("toggle", () => draw());

  /** Forgets who stands where: another camera has other people. */
  function clear() {
    cards = new Map();
    inPlaces = { now: places(byId("now-list")), before: places(byId("before-list")) };
  }

  /** `state` is the camera's, `now` milliseconds by the server's clock. */
  function show(summary, state, now) {
    draw = () => show(summary, state, now);
    const newest = Date.parse(summary.updated_at ?? "");
    const live = (state.was ?? state.kind) === "live";
    const count = live ? summary.now.people : 0;
    const isInView = ({ last_seen, active_at }) =>
      live && last_seen === summary.updated_at && Date.parse(active_at ?? "") >= newest - ACTIVE_MILLISECONDS;
    const listed = new Map(summary.current_people.map((person) => [person.person_id, person]));
    for (const id of cards.keys()) if (!listed.has(id)) cards.delete(id);
    const ids = [...listed.keys()];
    const inView = ids.filter((id) => isInView(listed.get(id)));
    const before = ids.filter((id) => !isInView(listed.get(id)));

    const most = showsAll ? ALL : CARDS;
    const shown = inPlaces.now([...inView].sort(inOrder), most, (id) => card(listed.get(id), ""));
    const seenBefore = byId("before").open ? before : [];
    inPlaces.before(seenBefore, SHOWN, (id) => card(listed.get(id), seen(listed.get(id), newest, state, now)));

    const all = summary.current_people.length <= (showsAll ? ALL : SHOWN);
    const notStored = !listed.size && count > 0; // where the daemon stores totals only
    showMood(summary.now.seconds, state, live, count);
    setText(byId("now-title"), state.kind === "unknown" ? "In view when the API last answered" : "In view now");
    setText(byId("now-more"), notStored ? NOT_STORED : showsAll ? more(count - shown) : "");
    byId("now").hidden = !inView.length && !notStored;
    byId("show-all").hidden = !showsAll && count <= CARDS || notStored;
    setText(byId("show-all"), showsAll ? `Show ${CARDS} only` : `Show all ${number(count)}`);
    byId("show-all").setAttribute("aria-expanded", showsAll);
    byId("before").hidden = before.length === 0;
    setText(byId("before-title"), `Seen before: ${all ? "" : "more than "}${plural(before.length, "person", "people")}`);
    setText(byId("before-more"), all ? "" : `Only the ${SHOWN} people seen last are shown.`);
  }

  /** The first line: how many are in view, and what they showed in the last seconds. */
  function showMood(seconds, state, live, count) {
    const parts = Object.entries(shares(seconds)).filter(([, share]) => share > 0);
    const isKnown = live && count > 0 && parts.length > 0;
    const mood = parts.sort(([, a], [, b]) => b - a).map(([name, share]) => `${percent(share)} ${name}`);
    setText(byId("mood"), whyEmpty(count, state) || `${number(count)} in view${isKnown ? `: ${mood.join(", ")}` : ""}`);
    byId("mood-bar").hidden = !isKnown;
    bar.set(seconds);
  }

  function card(person, when) {
    if (!cards.has(person.person_id)) cards.set(person.person_id, newCard(person.person_id));
    const known = cards.get(person.person_id);
    known.show(person, when);
    return known.node;
  }

  return { show, clear };
}

/** Measured from the camera's newest batch: the difference of two timestamps is right even if its clock is wrong. */
function seen(person, newest, state, now) {
  if (!state.received) return "";
  const seconds = (now - state.received + newest - Date.parse(person.active_at ?? person.last_seen)) / 1000;
  return seconds < 0 ? "" : `${age(seconds)} ago`;
}

function whyEmpty(count, state) {
  if (state.kind === "unknown") return "The API does not answer: who is in view now is not known.";
  if (count) return "";
  if (state.kind === "live") return "No one in view. The camera works and sees no person.";
  return state.kind === "waiting" ? "No one yet." : "Who is in view is not known while the camera is not heard.";
}

function more(count) {
  return count > 0 ? `And ${number(count)} more in view.` : "";
}

function newCard(id) {
  const emotion = element("span", { class: "emotion" });
  const when = element("span", { class: "when" });
  const bar = element("div", { class: "bar", "aria-hidden": "true" });
  const times = element("p", { class: "times" });
  const name = element("span", { class: "id", title: id }, "Person ", element("bdi", {}, id));
  const heading = element("p", { class: "person" }, name, when);
  const node = element("li", {}, heading, element("p", { class: "mood" }, emotion), bar, times);
  const stacked = stackedBar(bar);
  let shown = {};
  return {
    node,
    show(person, ago) {
      setText(when, ago);
      if (person === shown.person && !ago === !shown.ago) return;
      shown = { person, ago };
      const seconds = Object.fromEntries(EMOTIONS.map((name) => [name, person[`time_${name}`]]));
      const some = EMOTIONS.filter((name) => seconds[name] > 0);
      // Of those who have left, the whole time counts.
      const mood = (ago ? null : person.emotion_now) ?? person.current_emotion;
      if (emotion.dataset.emotion !== mood) emotion.replaceChildren(face(mood), NAMES[mood]);
      emotion.dataset.emotion = mood;
      stacked.set(seconds);
      setText(times, some.map((name) => `${name} ${duration(seconds[name])}`).join(" · ") || "no time of any emotion yet");
    },
  };
}

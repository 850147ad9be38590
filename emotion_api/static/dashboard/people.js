/** The people of a camera: who is in view now, and who was before. */

import { byId, element, setChildren, setText } from "./dom.js";
import { EMOTIONS, NAMES, face } from "./emotions.js";
import { age, duration, number, plural } from "./format.js";
import { stackedBar } from "./totals.js";

/** How many are shown. One more is asked for, to know whether there are more. */
export const SHOWN = 100;

/** A person whose seconds have not grown for longer is no longer in view. */
const ACTIVE_MILLISECONDS = 10_000;

const NOT_STORED = "People are not stored here: there is nothing to show of each of them.";

export function people() {
  const cards = new Map();

  /** `state` is the camera's, `peopleNow` how many its newest batch had, `now` milliseconds by the server's clock. */
  function show(summary, state, peopleNow, now) {
    const listed = summary.current_people.slice(0, SHOWN);
    const newest = Date.parse(summary.updated_at ?? "");
    const live = (state.was ?? state.kind) === "live";
    const isInView = (person) => live && Date.parse(person.active_at ?? "") >= newest - ACTIVE_MILLISECONDS;
    const inView = listed.filter(isInView);
    const before = listed.filter((person) => !isInView(person));

    const kept = new Set(listed.map((person) => person.person_id));
    for (const id of cards.keys()) if (!kept.has(id)) cards.delete(id);
    setChildren(byId("now-list"), inView.map((person) => card(person, "")));
    setChildren(byId("before-list"), before.map((person) => card(person, seen(person, newest, state, now))));

    const all = summary.current_people.length <= SHOWN;
    const notStored = live && !listed.length && peopleNow > 0; // where the daemon stores totals only
    const count = Math.max(inView.length, all && !notStored ? 0 : peopleNow);
    const title = state.kind === "unknown" ? "In view when the API last answered" : "In view now";
    setText(byId("now-title"), inView.length || notStored ? `${title}: ${plural(count, "person", "people")}` : title);
    setText(byId("now-more"), notStored ? NOT_STORED : whyEmpty(inView, state) || more(peopleNow - inView.length, all));
    byId("before").hidden = before.length === 0;
    setText(byId("before-more"), all ? "" : `Only the ${SHOWN} people seen last are shown.`);
  }

  function card(person, when) {
    if (!cards.has(person.person_id)) cards.set(person.person_id, newCard(person.person_id));
    const known = cards.get(person.person_id);
    known.show(person, when);
    return known.node;
  }

  return { show };
}

/** Measured from the camera's newest batch: the difference of two timestamps is right even if its clock is wrong. */
function seen(person, newest, state, now) {
  if (!state.received) return "";
  const seconds = (now - state.received + newest - Date.parse(person.active_at ?? person.last_seen)) / 1000;
  return seconds < 0 ? "" : `${age(seconds)} ago`;
}

function whyEmpty(inView, state) {
  if (state.kind === "unknown") return "The API does not answer: who is in view now is not known.";
  if (inView.length) return "";
  if (state.kind === "live") return "No one. The camera works and sees no person.";
  return state.kind === "waiting" ? "No one yet." : "Not known while the camera is not heard.";
}

function more(count, all) {
  return !all && count > 0 ? `And ${number(count)} more in view.` : "";
}

function newCard(id) {
  const emotion = element("span", { class: "emotion" });
  const when = element("span", { class: "when" });
  const bar = element("div", { class: "bar", "aria-hidden": "true" });
  const times = element("p", { class: "times" });
  const heading = element("p", { class: "person" }, element("span", { class: "id", title: id }, `Person ${id}`), when);
  const node = element("li", {}, heading, element("p", { class: "mood" }, emotion), bar, times);
  const stacked = stackedBar(bar);
  let shown;
  return {
    node,
    show(person, ago) {
      setText(when, ago);
      if (person === shown) return;
      shown = person;
      const seconds = Object.fromEntries(EMOTIONS.map((name) => [name, person[`time_${name}`]]));
      const some = EMOTIONS.filter((name) => seconds[name] > 0);
      emotion.replaceChildren(face(person.current_emotion), NAMES[person.current_emotion]);
      stacked.set(seconds);
      times.replaceChildren(...separated(some.map((name) => `${name} ${duration(seconds[name])}`)));
    },
  };
}

/** Texts with a dot between them, each of which stays on one line. */
function separated(texts) {
  if (!texts.length) return ["no time of any emotion yet"];
  return texts.flatMap((text, place) => [place ? " · " : "", element("span", { class: "whole" }, text)]);
}

/** A cursor on a chart that keyboard and pointer move. It stays at its time, whatever moves below it. */

/** `input` is the range input over the chart; `describe` is called with the step under the cursor. */
export function readout(input, describe) {
  let steps = [];
  let newest = 0;
  let at = null; // where the visitor has put it; null: it follows the newest step

  input.addEventListener("input", () => move(Number(input.value)));
  input.addEventListener("pointermove", (event) => {
    const box = input.getBoundingClientRect();
    const [begin, end] = [steps[0].start, steps.at(-1).end];
    const place = placeAt(begin + ((event.clientX - box.left) / box.width) * (end - begin));
    if (place >= 0) move(place);
  });

  const placeAt = (time) => steps.findIndex((step) => step.start <= time && time < step.end);

  function move(place) {
    at = place === newest ? null : steps[place].start;
    input.value = place;
    describe(steps[place]);
  }

  /** Shows other steps. The cursor stays at its time if it is among them. */
  return function show(next) {
    steps = next;
    newest = Math.max(0, steps.findLastIndex((step) => step.kind !== "future"));
    const place = at === null ? -1 : placeAt(at);
    if (place < 0) at = null;
    input.max = steps.length - 1;
    input.value = place < 0 ? newest : place;
    describe(steps[place < 0 ? newest : place]);
  };
}

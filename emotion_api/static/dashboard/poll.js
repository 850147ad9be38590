/** Repeats a call, but only while the page is visible. */

const AFTER_A_BUG = 30_000;

/**
 * Calls `step`, which returns the milliseconds until the next call, and `early`: whether being shown again is a reason
 * to call before. Two calls never overlap. Returns a function that has it called at once.
 */
export function poll(step) {
  let timer;
  let running = false;
  let again = false;
  let notBefore = 0;

  async function run() {
    clearTimeout(timer);
    if (document.hidden) return;
    if (running) {
      again = true;
      return;
    }
    running = true;
    const began = performance.now();
    const { pause, early } = await step().catch((error) => {
      reportError(error);
      return { pause: AFTER_A_BUG, early: false };
    });
    running = false;
    const due = began + pause;
    notBefore = early ? 0 : due;
    if (again) {
      again = false;
      run();
    } else {
      timer = setTimeout(run, Math.max(0, due - performance.now()));
    }
  }

  function soon() {
    clearTimeout(timer);
    timer = setTimeout(run, Math.max(0, notBefore - performance.now()));
  }

  document.addEventListener("visibilitychange", soon);
  addEventListener("online", soon);
  run();
  return run;
}

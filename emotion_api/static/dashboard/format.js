/** Durations, ages and times as people read them. */

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** How long: "0 s", "3.2 s", "42 s", "2 min 3 s", "5 h 12 min", "1,234 h". */
export function duration(seconds) {
  if (seconds > 1e6 * HOUR) return ">1,000,000 h";
  if (seconds > 0 && seconds < 9.95) return `${Math.max(0.1, Math.round(seconds * 10) / 10)} s`;
  const whole = Math.round(seconds);
  if (whole < MINUTE) return `${whole} s`;
  if (whole < HOUR) return twoUnits(whole, "min", "s");
  if (whole < 100 * HOUR) return twoUnits(Math.round(whole / MINUTE), "h", "min");
  return `${Math.round(whole / HOUR).toLocaleString("en")} h`;
}

/** How long ago, in one unit: "2 s", "14 min", "3 h", "5 days". */
export function age(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < MINUTE) return `${whole} s`;
  if (whole < HOUR) return `${Math.floor(whole / MINUTE)} min`;
  if (whole < 2 * DAY) return twoUnits(Math.floor(whole / MINUTE), "h", "min");
  return `${Math.floor(whole / DAY).toLocaleString("en")} days`;
}

function twoUnits(count, large, small) {
  const rest = count % 60;
  return `${Math.floor(count / 60)} ${large}${rest ? ` ${rest} ${small}` : ""}`;
}

/** 14:05, in this browser's time zone; with the zone's name in an hour that comes twice: 01:05 EST. */
export function time(milliseconds) {
  const text = clock(milliseconds);
  const comesTwice = [-HOUR, HOUR].some((seconds) => clock(milliseconds + seconds * 1000) === text);
  return comesTwice ? `${text} ${zone(milliseconds)}` : text;
}

function clock(milliseconds) {
  return new Date(milliseconds).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
}

function zone(milliseconds) {
  const parts = new Intl.DateTimeFormat("en-US", { timeZoneName: "short" }).formatToParts(milliseconds);
  return parts.find((part) => part.type === "timeZoneName").value;
}

/** The time, with the day where it is not today. */
export function moment(milliseconds, now) {
  const then = new Date(milliseconds);
  if (then.toDateString() === new Date(now).toDateString()) return time(milliseconds);
  return `${then.toLocaleDateString([], { weekday: "short", day: "numeric", month: "short" })} ${time(milliseconds)}`;
}

export function percent(share) {
  const whole = Math.round(share * 100);
  return whole === 0 && share > 0 ? "<1 %" : `${whole} %`;
}

export function plural(count, one, many) {
  return `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
}

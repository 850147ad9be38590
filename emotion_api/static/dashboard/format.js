/** Durations, ages and times as people read them: in English, and in the zone of the site. */

/** The site's time zone, an IANA name. */
export const ZONE = document.querySelector("meta[name=time-zone]")?.content ?? "UTC";

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

const LOCALE = "en-GB"; // a day before its month, and hours up to 23
const inZone = (options) => new Intl.DateTimeFormat(LOCALE, { timeZone: ZONE, ...options });
const CLOCK = inZone({ hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const OFFSET = inZone({ timeZoneName: "shortOffset" });
const DAY_NAME = inZone({ weekday: "short", day: "numeric", month: "short" });
const DATE = inZone({ dateStyle: "short" });

/** How long: "0 s", "3.2 s", "42 s", "2 min 3 s", "5 h 12 min", "1,234 h". */
export function duration(seconds) {
  if (seconds > 1e6 * HOUR) return ">1,000,000 h";
  if (seconds > 0 && seconds < 9.95) return `${Math.max(0.1, Math.round(seconds * 10) / 10)} s`;
  const whole = Math.round(seconds);
  if (whole < MINUTE) return `${whole} s`;
  if (whole < HOUR) return twoUnits(whole, "min", "s");
  if (whole < 100 * HOUR) return twoUnits(Math.round(whole / MINUTE), "h", "min");
  return `${number(Math.round(whole / HOUR))} h`;
}

/** How long ago, in one unit: "2 s", "14 min", "3 h", "5 days". */
export function age(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < MINUTE) return `${whole} s`;
  if (whole < HOUR) return `${Math.floor(whole / MINUTE)} min`;
  if (whole < 2 * DAY) return twoUnits(Math.floor(whole / MINUTE), "h", "min");
  return `${number(Math.floor(whole / DAY))} days`;
}

function twoUnits(count, large, small) {
  const rest = count % 60;
  return `${Math.floor(count / 60)} ${large}${rest ? ` ${rest} ${small}` : ""}`;
}

/** 14:05, in the site's zone; with the offset in an hour that comes twice: 01:05 GMT-5. */
export function time(milliseconds) {
  const text = CLOCK.format(milliseconds);
  const comesTwice = [-HOUR, HOUR].some((seconds) => CLOCK.format(milliseconds + seconds * 1000) === text);
  return comesTwice ? `${text} ${offset(milliseconds)}` : text;
}

function offset(milliseconds) {
  return OFFSET.formatToParts(milliseconds).find((part) => part.type === "timeZoneName").value;
}

/** When the hour of the clock began: the two hours of a clock change that have one name stay two. */
export function hourOf(milliseconds) {
  return milliseconds - Number(CLOCK.format(milliseconds).slice(3)) * MINUTE * 1000;
}

/** The time, with the day where it is not today. */
export function moment(milliseconds, now) {
  if (DATE.format(milliseconds) === DATE.format(now)) return time(milliseconds);
  return `${DAY_NAME.format(milliseconds).replace(",", "")} ${time(milliseconds)}`;
}

/** 1,234 */
export function number(count) {
  return count.toLocaleString(LOCALE);
}

export function percent(share) {
  const whole = Math.round(share * 100);
  return whole === 0 && share > 0 ? "<1 %" : `${whole} %`;
}

export function plural(count, one, many) {
  return `${number(count)} ${count === 1 ? one : many}`;
}

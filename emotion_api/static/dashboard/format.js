/** Durations, ages and times as people read them: in English, and in the zone of the site. */

/** The site's time zone, an IANA name. */
export const ZONE = document.querySelector("meta[name=time-zone]")?.content ?? "UTC";

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** Compares two texts; numbers in them count as numbers. */
export const inOrder = new Intl.Collator("en", { numeric: true }).compare;

const LOCALE = "en-GB"; // a day before its month, and hours up to 23
const inZone = (options) => new Intl.DateTimeFormat(LOCALE, { timeZone: ZONE, ...options });
const DATE_PARTS = { year: "numeric", month: "numeric", day: "numeric" };
const PARTS = inZone({ ...DATE_PARTS, hour: "numeric", minute: "numeric", second: "numeric", hourCycle: "h23" });
const OFFSET = inZone({ timeZoneName: "shortOffset" });
const DAY_NAME = inZone({ weekday: "short", day: "numeric", month: "short" });
const LONG_DATE = inZone({ dateStyle: "full" });
const WEEKDAY = inZone({ weekday: "long" });
const DATE = inZone({ dateStyle: "short" });
const RIGHT_TO_LEFT = /[\u0590-\u08ff\ufb1d-\ufefc]/;

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

/** The time of the site's clocks, written as a number of milliseconds as if they showed UTC. */
export function local(milliseconds) {
  const part = Object.fromEntries(PARTS.formatToParts(milliseconds).map(({ type, value }) => [type, value]));
  return Date.UTC(part.year, part.month - 1, part.day, part.hour, part.minute, part.second);
}

/** 14:05, in the site's zone; with the offset in an hour that comes twice: 01:05 GMT-5. */
export function time(milliseconds) {
  const text = hourAndMinute(milliseconds);
  const comesTwice = [-HOUR, HOUR].some((seconds) => hourAndMinute(milliseconds + seconds * 1000) === text);
  return comesTwice ? `${text} ${offset(milliseconds)}` : text;
}

function hourAndMinute(milliseconds) {
  return new Date(local(milliseconds)).toISOString().slice(11, 16);
}

function offset(milliseconds) {
  return OFFSET.formatToParts(milliseconds).find((part) => part.type === "timeZoneName").value;
}

/** Sat 29 Nov */
export function dayName(milliseconds) {
  return DAY_NAME.format(milliseconds).replace(",", "");
}

/** Saturday 29 November 2025 */
export function longDate(milliseconds) {
  return LONG_DATE.format(milliseconds).replace(",", "");
}

/** Saturday */
export function weekday(milliseconds) {
  return WEEKDAY.format(milliseconds);
}

/** The time, with the day where it is not today. */
export function moment(milliseconds, now) {
  const isToday = DATE.format(milliseconds) === DATE.format(now);
  return isToday ? time(milliseconds) : `${dayName(milliseconds)} ${time(milliseconds)}`;
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

/** A text that is put into a line of text where no element can isolate it: a name may run from right to left. */
export function isolated(text) {
  return RIGHT_TO_LEFT.test(text) ? `\u2068${text}\u2069` : text;
}

/** The summary of one device, and how this app asks for it. */

export const EMOTIONS = ["happy", "sad", "angry", "neutral"] as const;
export type Emotion = (typeof EMOTIONS)[number];

export interface Person {
  person_id: string;
  current_emotion: Emotion;
  time_happy: number;
  time_sad: number;
  time_angry: number;
  time_neutral: number;
  last_seen: string;
  active_at: string | null;
  emotion_now: Emotion | null;
}

/** What the API returns for `fields=totals`. */
export interface Totals {
  device_id: string;
  device_name: string;
  updated_at: string | null;
  emotion_totals: Record<Emotion, number>;
  history_totals: Record<Emotion, number>;
  now: { people: number; seconds: Record<Emotion, number> };
}

export interface Summary extends Totals {
  current_people: Person[];
}

/** A newest batch that is older is stale. */
export const STALE_SECONDS = 30;

/** A person counts as in view for this long after their seconds grew. */
const IN_VIEW_SECONDS = 10;

/** The page counts up to this number. The list of all people that a device ever saw may have 100,000 entries. */
export const MOST_COUNTED = 100;

/** The people in view. One more than MOST_COUNTED tells "100" from "more than 100". */
export const IN_VIEW = { active_within: String(IN_VIEW_SECONDS), limit: String(MOST_COUNTED + 1) };

/** Name and totals without any people, however many the device has seen. */
export const TOTALS_ONLY = { fields: "totals" };

/** The summary of one device, and how this app asks for it. */

export const EMOTIONS = ["happy", "sad", "angry", "neutral"] as const;
export type Emotion = (typeof EMOTIONS)[number];

/** What the API returns for `fields=totals`: name, totals and the number of people in view, but no list of people. */
export interface Summary {
  device_id: string;
  device_name: string;
  updated_at: string | null;
  emotion_totals: Record<Emotion, number>;
  history_totals: Record<Emotion, number>;
  now: { people: number; seconds: Record<Emotion, number> };
}

/** A newest batch that is older is stale. */
export const STALE_SECONDS = 30;

/** Asks for no list of people: a device may have seen 100,000. */
export const TOTALS_ONLY = { fields: "totals" };

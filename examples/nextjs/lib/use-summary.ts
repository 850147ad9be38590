/** Polls the summary of one device. */

import { useEffect, useState } from "react";

import type { Summary } from "@/lib/emotions";

const PAUSE = 1_000;
const PAUSE_AFTER_AN_ERROR = 5_000;

/** A summary, and how old its newest batch was when the server answered. `readAt` is performance.now(). */
export interface Reading {
  summary: Summary;
  batchAge: number | null;
  readAt: number;
}

/** The newest reading and the reason why the last request failed. After an error the old reading stays. */
export function useSummary(deviceId: string): { reading: Reading | null; error: string | null } {
  const [reading, setReading] = useState<Reading | null>(null);
  const [error, setError] = useState<string | null>(null);

  useEffect(() => {
    const unmounted = new AbortController();
    let timer: number | undefined;

    async function poll() {
      let pause = PAUSE;
      try {
        setReading(await readSummary(deviceId, unmounted.signal));
        setError(null);
      } catch (cause) {
        if (unmounted.signal.aborted) return;
        setError(cause instanceof Error ? cause.message : String(cause));
        pause = PAUSE_AFTER_AN_ERROR;
      }
      timer = window.setTimeout(poll, pause);
    }

    void poll();
    return () => {
      unmounted.abort();
      window.clearTimeout(timer);
    };
  }, [deviceId]);

  return { reading, error };
}

/** Throws an Error with the API's own sentence. The browser sends If-None-Match by itself. */
async function readSummary(deviceId: string, signal: AbortSignal): Promise<Reading> {
  const response = await fetch(`/api/emotions?${new URLSearchParams({ device_id: deviceId })}`, { signal });
  const body = await response.json();
  if (!response.ok) throw new Error(body.detail);
  const summary = body as Summary;
  return { summary, batchAge: ageOfBatch(summary, response.headers.get("Date")), readAt: performance.now() };
}

/** Seconds, by the server's clock: the clock of this browser may be wrong. */
function ageOfBatch({ updated_at }: Summary, date: string | null): number | null {
  if (updated_at === null) return null;
  const now = date === null ? Date.now() : Date.parse(date);
  return Math.max(0, (now - Date.parse(updated_at)) / 1_000);
}

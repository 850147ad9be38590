"use client";

import { useEffect, useState } from "react";

import { EMOTIONS, STALE_SECONDS } from "@/lib/emotions";
import { type Reading, useSummary } from "@/lib/use-summary";

export function DeviceSummary({ deviceId }: { deviceId: string }) {
  const { reading, error } = useSummary(deviceId);
  const age = useAge(reading);
  return (
    <main>
      <h1>{reading?.summary.device_name ?? deviceId}</h1>
      {error && <p role="alert">No new data: {error}</p>}
      {reading && (
        <>
          <p id="freshness">{freshness(age)}</p>
          <p id="in-view">{age !== null && age <= STALE_SECONDS && inView(reading.summary.now.people)}</p>
          <ul id="totals">
            {EMOTIONS.map((emotion) => (
              <li key={emotion}>
                {emotion}: {Math.round(reading.summary.history_totals[emotion])} s
              </li>
            ))}
          </ul>
        </>
      )}
    </main>
  );
}

/** Seconds since the newest batch. They also grow while the server does not answer. */
function useAge(reading: Reading | null): number | null {
  const [now, setNow] = useState(() => performance.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(performance.now()), 1_000);
    return () => clearInterval(timer);
  }, []);
  if (reading === null || reading.batchAge === null) return null;
  return reading.batchAge + Math.max(0, now - reading.readAt) / 1_000;
}

function freshness(age: number | null): string {
  if (age === null) return "This device has not sent a batch yet.";
  const seconds = Math.round(age);
  return age <= STALE_SECONDS ? `Live, updated ${seconds} s ago` : `Stale: the newest batch is ${seconds} s old`;
}

function inView(people: number): string {
  return people === 1 ? "1 person in view" : `${people} people in view`;
}

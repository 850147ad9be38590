/** Requests to the API, from the server that Next.js runs on. */

const API = process.env.EMOTION_API ?? "http://127.0.0.1:8000";
const TOKEN = process.env.EMOTION_API_TOKEN;

/** Ask for a device's summary. The token stays on this server: a NEXT_PUBLIC_ variable would be readable by all visitors. */
export function askSummary(deviceId: string, parameters: Record<string, string>, etag?: string | null) {
  const headers = new Headers();
  if (TOKEN) headers.set("Authorization", `Bearer ${TOKEN}`);
  if (etag) headers.set("If-None-Match", etag);
  const query = new URLSearchParams({ device_id: deviceId, ...parameters });
  return fetch(`${API}/api/dashboard/summary?${query}`, {
    headers,
    cache: "no-store",
    signal: AbortSignal.timeout(5_000),
  });
}

/** GET /api/emotions?device_id=jetson_1: the API's answer, without the token and without CORS. */

import { askSummary } from "@/lib/api";
import { TOTALS_ONLY } from "@/lib/emotions";

const PASSED_ON = ["content-type", "etag", "retry-after"];

export async function GET(request: Request) {
  const deviceId = new URL(request.url).searchParams.get("device_id") ?? "jetson_1";
  let answer: Response;
  try {
    answer = await askSummary(deviceId, TOTALS_ONLY, request.headers.get("If-None-Match"));
  } catch {
    return Response.json({ title: "Bad Gateway", status: 502, detail: "The emotion API does not answer." }, { status: 502 });
  }
  const headers = new Headers({ "Cache-Control": "private, no-cache" });
  for (const name of PASSED_ON) {
    const value = answer.headers.get(name);
    if (value !== null) headers.set(name, value);
  }
  return new Response(answer.body, { status: answer.status, headers });
}

/** /?device=jetson_1: the summary of one device. */

import type { Metadata } from "next";

import { DeviceSummary } from "@/app/device-summary";
import { askSummary } from "@/lib/api";
import { TOTALS_ONLY, type Summary } from "@/lib/emotions";

interface Props {
  searchParams: Promise<{ device?: string | string[] }>;
}

export async function generateMetadata(props: Props): Promise<Metadata> {
  const deviceId = await chosenDevice(props);
  const answer = await askSummary(deviceId, TOTALS_ONLY).catch(() => null);
  return { title: answer?.ok ? ((await answer.json()) as Summary).device_name : deviceId };
}

export default async function Page(props: Props) {
  const deviceId = await chosenDevice(props);
  return <DeviceSummary key={deviceId} deviceId={deviceId} />;
}

async function chosenDevice({ searchParams }: Props): Promise<string> {
  const { device } = await searchParams;
  return typeof device === "string" ? device : "jetson_1";
}

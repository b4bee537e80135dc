/** Health check of a container: exit 0 when the URL answers 2xx within three seconds, else 1 and what it said. */
const url = process.argv[2];
try {
  const answer = await fetch(url, { signal: AbortSignal.timeout(3000) });
  if (answer.ok) process.exit(0);
  console.error(`${url}: ${answer.status} ${(await answer.text()).slice(0, 500)}`);
} catch (error) {
  console.error(`${url}: ${error instanceof Error ? error.message : error}`);
}
process.exit(1);

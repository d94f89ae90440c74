/** HEALTHCHECK of the images, which have no shell: exit 0 when the URL answers 200 within 3 s. */
try {
  const response = await fetch(process.argv[2], { signal: AbortSignal.timeout(3_000) });
  process.stdout.write(await response.text());
  process.exit(response.ok ? 0 : 1);
} catch (error) {
  process.stderr.write(`${error.cause?.message ?? error.message}\n`);
  process.exit(1);
}

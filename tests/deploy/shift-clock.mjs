/** Preloaded into a process (`--import`): its wall clock is CLOCK_SHIFT_MS ahead of the machine's. */
const now = Date.now;
const shiftMs = Number(process.env.CLOCK_SHIFT_MS);
Date.now = () => now() + shiftMs;

/** `npm run interop`: the clients of every language, whose first builds take minutes. */
process.env.QUOIN_INTEROP = 'all';
process.argv.splice(2, 0, 'tests/interop');
await import('./test.mjs');

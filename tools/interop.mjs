/** `npm run interop`: the clients of every language, also those whose first build takes minutes. */
process.env.QUOIN_INTEROP = 'all';
process.argv.splice(2, 0, 'tests/interop');
await import('./test.mjs');

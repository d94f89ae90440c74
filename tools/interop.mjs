/** `npm run interop`: the clients of every language, and the chart's renderer, whose first builds take minutes. */
process.env.QUOIN_INTEROP = 'all';
process.argv.splice(2, 0, 'tests/interop', 'tests/deploy/manifests');
await import('./test.mjs');

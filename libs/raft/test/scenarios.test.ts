/** Whole-cluster scenarios, and the cases of quorums and membership changes. See scenario-file.ts for the format. */
import {
  ConfChangeError,
  changeConf,
  emptyConfState,
  jointVote,
  majorityIndex,
  majorityVote,
} from '../src/index.ts';
import { describeConf } from './describe.ts';
import { parseChange, ScenarioCluster } from './scenario-cluster.ts';
import { runScenarios } from './scenario-file.ts';

runScenarios('cluster', () => {
  const cluster = new ScenarioCluster();
  return (command) => cluster.run(command);
});

runScenarios('confchange', () => {
  let conf = emptyConfState;
  return (line) => {
    try {
      conf = changeConf(conf, parseChange(line.split(' ')));
    } catch (error) {
      if (error instanceof ConfChangeError) return error.message;
      throw error;
    }
    return describeConf(conf);
  };
});

// `commit 5 7 _ / 3 4`: indexes of the voters, _ = nothing heard; after the slash the outgoing half.
// `vote y n _ / y`: likewise.
runScenarios('quorum', () => (line) => {
  const [what, ...words] = line.split(' ');
  const slash = words.indexOf('/');
  const incoming = slash < 0 ? words : words.slice(0, slash);
  const outgoing = slash < 0 ? [] : words.slice(slash + 1);
  if (what === 'commit') {
    const index = (half: string[]) => majorityIndex(half.map((word) => (word === '_' ? 0 : Number(word))));
    return String(Math.min(index(incoming), index(outgoing)));
  }
  const count = (half: string[], word: string) => half.filter((w) => w === word).length;
  const vote = (half: string[]) => majorityVote(count(half, 'y'), count(half, 'n'), half.length);
  return jointVote(vote(incoming), vote(outgoing));
});

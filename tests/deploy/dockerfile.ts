/** The parts of a Dockerfile that say what an image is, so that a role can be started as its image would start it. */

export interface ImageStage {
  readonly name: string;
  readonly from: string;
  /** Of `COPY --from=build SOURCE TARGET`. */
  readonly copies: readonly { readonly source: string; readonly target: string }[];
  readonly user: string;
  readonly env: Readonly<Record<string, string>>;
  readonly entrypoint: readonly string[];
  readonly cmd: readonly string[];
  readonly health: readonly string[];
  readonly volumes: readonly string[];
  /** Of the build stage. */
  readonly runs: readonly string[];
}

/** @throws Error at an instruction that it does not know: the test must not pass over what an engine would do. */
export function readDockerfile(text: string): ImageStage[] {
  const lines = text
    .replace(/\\\n\s*/g, '')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'));
  const stages: ImageStage[] = [];
  for (const line of lines) {
    const [, word, rest] = /^([A-Z]+)\s+(.*)$/.exec(line) ?? [];
    if (word === 'FROM') {
      const [, from, name] = /^(\S+) AS (\S+)$/.exec(rest!)!;
      stages.push({ ...empty, from: from!, name: name! });
      continue;
    }
    const stage = stages.at(-1)!;
    stages[stages.length - 1] = { ...stage, ...instruction(stage, word ?? '', rest ?? line) };
  }
  return stages;
}

const empty: Omit<ImageStage, 'name' | 'from'> = {
  copies: [],
  user: '',
  env: {},
  entrypoint: [],
  cmd: [],
  health: [],
  volumes: [],
  runs: [],
};

function instruction(stage: ImageStage, word: string, rest: string): Partial<ImageStage> {
  switch (word) {
    case 'COPY': {
      const [, source, target] = /^(?:--from=build )?(\S+) (\S+)$/.exec(rest)!;
      return { copies: [...stage.copies, { source: source!, target: target! }] };
    }
    case 'RUN':
      return { runs: [...stage.runs, rest] };
    case 'USER':
      return { user: rest };
    case 'ENV': {
      const pairs = rest.split(/\s+/).map((pair) => pair.split(/=(.*)/s).slice(0, 2) as [string, string]);
      return { env: { ...stage.env, ...Object.fromEntries(pairs) } };
    }
    case 'ENTRYPOINT':
      return { entrypoint: JSON.parse(rest) };
    case 'CMD':
      return { cmd: JSON.parse(rest) };
    case 'VOLUME':
      return { volumes: JSON.parse(rest) };
    case 'HEALTHCHECK':
      return { health: JSON.parse(/CMD (\[.*\])$/.exec(rest)![1]!) };
    case 'WORKDIR':
    case 'EXPOSE':
      return {};
    default:
      throw new Error(`the test does not know what ${word} does`);
  }
}

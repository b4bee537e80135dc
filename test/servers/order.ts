import path from 'node:path';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/**
 * Long files first: one that begins when all others are done keeps a worker waiting for as long as it takes. How long a file
 * takes follows from where it is; in a fresh clone the test runner knows only how large they are.
 */
const LONGEST_FIRST = ['simulation', 'e2e', 'integration', 'conformance', 'unit', 'architecture'];

export class Order extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId, project }: TestSpecification) =>
      LONGEST_FIRST.indexOf(path.relative(project.config.root, moduleId).split(path.sep)[1]);
    return (await super.sort(files)).sort((a, b) => rank(a) - rank(b));
  }
}

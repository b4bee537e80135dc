import { type PartsSchema, partsMixin } from '../mixins/parts.ts';
import { Asking, type AskingOptions } from './inference/asking.ts';
import type { WireAnswer, WireRequest } from './inference/wire.ts';

/** A thousand rows with what explains them may take a fifth of a second: twins wait behind so many of those at most. */
const MOST_ASIDE = 2;

/** Lets this node ask models through the broker, wherever they run: here first, where this node has them. */
const asking: PartsSchema<{ asking: Asking | undefined }> = {
  name: 'asking',
  mixins: [partsMixin],

  async started() {
    const { clock, settings, predictor } = this.parts;
    const options: AskingOptions = {
      clock,
      deadlineMs: settings.inferenceDeadlineMs,
      call: (request, timeout) => this.broker.call<WireAnswer, WireRequest>('inference.predict', request, { timeout }),
    };
    this.asking = new Asking(options);
    predictor.take(this.asking, new Asking({ ...options, most: MOST_ASIDE, aside: true }));
  },

  async stopped() {
    if (this.asking) this.parts?.predictor.leave(this.asking);
  },
};

export default asking;

import { type PartsSchema, partsMixin } from '../mixins/parts.ts';
import { Asking } from './inference/asking.ts';
import type { WireAnswer, WireRequest } from './inference/wire.ts';

/** Lets this node ask models through the broker, wherever they run: here first, where this node has them. */
const asking: PartsSchema<{ asking: Asking | undefined }> = {
  name: 'asking',
  mixins: [partsMixin],

  async started() {
    const { clock, settings, predictor } = this.parts;
    this.asking = new Asking({
      clock,
      deadlineMs: settings.inferenceDeadlineMs,
      call: (request, timeout) => this.broker.call<WireAnswer, WireRequest>('inference.predict', request, { timeout }),
    });
    predictor.take(this.asking);
  },

  async stopped() {
    if (this.asking) this.parts?.predictor.leave(this.asking);
  },
};

export default asking;

import type { ReceiverSettings } from '../notify/receiver-settings.ts';
import { email } from './email.ts';
import { pagerduty } from './pagerduty.ts';
import type { Receiver } from './receiver.ts';
import { slack } from './slack.ts';
import { webhook } from './webhook.ts';

export function openReceiver(settings: ReceiverSettings): Receiver {
  switch (settings.type) {
    case 'webhook':
      return webhook(settings);
    case 'slack':
      return slack(settings);
    case 'pagerduty':
      return pagerduty(settings);
    case 'email':
      return email(settings);
  }
}

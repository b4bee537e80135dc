/** A type of event, or the part before its dot, as filters take it. */
export const EVENT_TYPE = '[a-z]+(\\.[a-z]+)?';

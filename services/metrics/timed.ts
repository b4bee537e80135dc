/**
 * The same object, with every call of a method that answers a promise reported: its name, how long it took, and whether it
 * failed. For ports whose calls are few and large (statements of a database), not for hot loops.
 */
export function timed<T extends object>(
  target: T,
  observe: (method: string, durationMs: number, failed: boolean) => void,
): T {
  const wrapped = new Map<PropertyKey, unknown>();
  return new Proxy(target, {
    get(_, name) {
      const member = Reflect.get(target, name, target) as unknown;
      if (typeof member !== 'function' || typeof name !== 'string') return member;
      let wrapper = wrapped.get(name);
      if (wrapper === undefined) {
        wrapper = (...args: unknown[]) => {
          const startedAt = performance.now();
          const answer = (member as (...args: unknown[]) => unknown).apply(target, args);
          if (!(answer instanceof Promise)) return answer;
          answer.then(
            () => observe(name, performance.now() - startedAt, false),
            () => observe(name, performance.now() - startedAt, true),
          );
          return answer;
        };
        wrapped.set(name, wrapper);
      }
      return wrapper;
    },
  });
}

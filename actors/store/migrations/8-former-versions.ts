/**
 * What each live version of a model came after, so that rollbacks go back one further each time, also where a version has been
 * live more than once. For what was promoted before, the chain of `replaced` is all that is known, up to its first repetition.
 */
export const FORMER_VERSIONS = {
  version: 8,
  name: 'former versions',
  sql: `
alter table models add column former text[] not null default '{}';
with recursive chain as (
  select name, version as live, array[replaced] as former from models where status = 'live' and replaced is not null
  union all
  select c.name, c.live, c.former || m.replaced from chain c
    join models m on m.name = c.name and m.version = c.former[cardinality(c.former)] and m.replaced is not null
    where m.version <> c.live and m.version <> all (c.former[:cardinality(c.former) - 1])
), longest as (select distinct on (name) name, live, former from chain order by name, cardinality(former) desc)
update models m set former = l.former from longest l where m.name = l.name and m.version = l.live;
`,
};

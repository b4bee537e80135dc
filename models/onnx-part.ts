import { eachField, textOf } from './onnx-file.ts';

/** Fields of ModelProto, GraphProto, NodeProto, AttributeProto, TensorProto and ValueInfoProto (onnx.proto3). */
const GRAPH = 7;
const NODE = 1;
const CONSTANT = 5;
const OUTPUT = 12;
const SHAPE_BETWEEN = 13;
const NODE_INPUT = 1;
const NODE_OUTPUT = 2;
const ATTRIBUTE = 5;
const ATTRIBUTE_GRAPHS = [6, 11];
const CONSTANT_NAME = 8;
const OUTPUT_NAME = 1;

/**
 * The part of an ONNX file that one output needs: the same file without the nodes, constants and outputs that only others do.
 * What is left is copied byte by byte. Null where it cannot be told, because a node with a graph of its own reads tensors that it
 * does not list, or where there is no such output. Throws bad_model where the bytes are no ONNX file.
 */
export function partOf(bytes: Uint8Array, output: string): Uint8Array | null {
  const parts: Uint8Array[] = [];
  let isThere = true;
  eachField(bytes, (field, value, start, end) => {
    if (field !== GRAPH || typeof value === 'number') {
      parts.push(bytes.subarray(start, end));
      return;
    }
    const graph = graphFor(value, output);
    if (graph === null) isThere = false;
    else parts.push(Uint8Array.from([...varint(GRAPH * 8 + 2), ...varint(graph.length)]), graph);
  });
  return isThere ? Buffer.concat(parts) : null;
}

function graphFor(graph: Uint8Array, output: string): Uint8Array | null {
  const fields: { field: number; value: number | Uint8Array; raw: Uint8Array }[] = [];
  eachField(graph, (field, value, start, end) => {
    fields.push({ field, value, raw: graph.subarray(start, end) });
  });
  const needed = new Set([output]);
  let isThere = false;
  // Nodes stand in the order in which they run: whoever needs a tensor comes after the node that makes it.
  const kept = new Set<Uint8Array>();
  for (const { field, value, raw } of fields.toReversed()) {
    if (field !== NODE || typeof value === 'number') continue;
    const node = nodeOf(value);
    if (node.hasGraph) return null;
    if (!node.outputs.some((name) => needed.has(name))) continue;
    for (const name of node.inputs) needed.add(name);
    isThere ||= node.outputs.includes(output);
    kept.add(raw);
  }
  if (!isThere) return null;
  const isNeeded = ({ field, value, raw }: (typeof fields)[number]): boolean => {
    if (typeof value === 'number') return true;
    if (field === CONSTANT) return needed.has(nameOf(value, CONSTANT_NAME));
    if (field === OUTPUT) return nameOf(value, OUTPUT_NAME) === output;
    return field === NODE ? kept.has(raw) : field !== SHAPE_BETWEEN;
  };
  return Buffer.concat(fields.filter(isNeeded).map(({ raw }) => raw));
}

function nodeOf(bytes: Uint8Array): { inputs: string[]; outputs: string[]; hasGraph: boolean } {
  const node = { inputs: [] as string[], outputs: [] as string[], hasGraph: false };
  eachField(bytes, (field, value) => {
    if (typeof value === 'number') return;
    if (field === NODE_INPUT) node.inputs.push(textOf(value));
    if (field === NODE_OUTPUT) node.outputs.push(textOf(value));
    if (field === ATTRIBUTE)
      eachField(value, (inner) => {
        node.hasGraph ||= ATTRIBUTE_GRAPHS.includes(inner);
      });
  });
  return node;
}

function nameOf(bytes: Uint8Array, nameField: number): string {
  let name = '';
  eachField(bytes, (field, value) => {
    if (field === nameField && typeof value !== 'number') name = textOf(value);
  });
  return name;
}

function varint(value: number): number[] {
  const bytes: number[] = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return [...bytes, rest];
    bytes.push((rest % 128) | 128);
  }
}

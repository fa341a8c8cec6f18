// Writes src/api/types.ts from the Python models. With --check it writes nothing and fails where they differ.
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { compile } from 'json-schema-to-typescript';

const here = dirname(dirname(fileURLToPath(import.meta.url)));
const target = join(here, 'src', 'api', 'types.ts');
const banner =
  '// Made from modelyard_jupyter/api.py by `npm run types`: change it there.\n/* eslint-disable */\n';

// The generator reads drafts up to 7: fixed tuples are `items` there. Titles of fields would become types of their own.
function plain(schema) {
  if (Array.isArray(schema)) {
    return schema.map(plain);
  }
  if (schema === null || typeof schema !== 'object') {
    return schema;
  }
  const { prefixItems, title, ...rest } = schema;
  const found = Object.fromEntries(
    Object.entries(rest).map(([key, value]) => [
      key,
      key === 'properties' || key === 'definitions'
        ? Object.fromEntries(Object.entries(value).map(([name, one]) => [name, plain(one)]))
        : plain(value)
    ])
  );
  if (prefixItems) {
    found.items = prefixItems.map(plain);
  }
  // A limit on an array's length would become a union of tuples.
  if (found.type === 'array' && !prefixItems) {
    delete found.minItems;
    delete found.maxItems;
  }
  return found;
}

const python = process.env.PYTHON ?? 'python3';
const printed = execFileSync(python, ['-m', 'modelyard_jupyter.schema'], {
  env: { ...process.env, PYTHONPATH: [here, process.env.PYTHONPATH].filter(Boolean).join(delimiter) },
  encoding: 'utf8',
  maxBuffer: 1 << 26
});
const made = await compile({ ...plain(JSON.parse(printed)), title: 'Messages' }, 'Messages', {
  additionalProperties: false,
  bannerComment: banner,
  style: { singleQuote: true, trailingComma: 'none', printWidth: 110, arrowParens: 'avoid' },
  unreachableDefinitions: true
});
// Drop the empty interface of the document itself and the notes of the generator about what was unreachable.
const text = made
  .replace(/export interface Messages \{[^}]*\}\n/, '')
  .replace(/\/\*\*\n \* This interface was referenced by[^\n]*\n[^\n]*\n \*\/\n/g, '')
  .replace(/ \*\n \* This interface was referenced by[^\n]*\n[^\n]*\n/g, '');

if (process.argv.includes('--check')) {
  if (readFileSync(target, 'utf8') !== text) {
    console.error(
      'src/api/types.ts differs from modelyard_jupyter/api.py: run `npm run types` in jupyter_ext/'
    );
    process.exit(1);
  }
} else {
  writeFileSync(target, text);
}

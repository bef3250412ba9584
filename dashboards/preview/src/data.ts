// Asks Prometheus for what the targets of a panel want, and makes Grafana's data frames of the answers.
import {
  DataFrame,
  FieldType,
  getDisplayProcessor,
  GrafanaTheme2,
  standardTransformers,
  standardTransformersRegistry,
  toDataFrame,
  transformDataFrame,
} from '@grafana/data';
import { lastValueFrom } from 'rxjs';

/** Epoch seconds. */
export type Span = { now: number; from: number; to: number };
export type Ask = { prometheus: string; span: Span; variables: Record<string, string> };

standardTransformersRegistry.setInit(() =>
  [standardTransformers.mergeTransformer, standardTransformers.organizeFieldsTransformer].map((transformation) => ({
    id: transformation.id,
    name: transformation.name,
    transformation: async () => transformation,
    editor: async () => null as any,
  })) as any
);

export const filled = (text: string, variables: Record<string, string>) =>
  text.replace(/\$\{?([a-z_]+)\}?/g, (whole, name) => variables[name] ?? whole);

const named = (format: string, labels: Record<string, string>) =>
  format === '__auto'
    ? Object.entries(labels).map(([name, value]) => `${name}="${value}"`).join(', ') || 'Value'
    : format.replace(/\{\{(\w+)\}\}/g, (_, name) => labels[name] ?? '');

async function answer(ask: Ask, target: any): Promise<any[]> {
  const { now, from, to } = ask.span;
  const query = filled(target.expr, ask.variables);
  const path = target.instant ? 'query' : 'query_range';
  const times = target.instant ? { time: now } : { start: from, end: to, step: Math.max(15, Math.round((to - from) / 240)) };
  const parameters = new URLSearchParams({ query, ...Object.fromEntries(Object.entries(times).map(([k, v]) => [k, String(v)])) });
  const found = await (await fetch(`${ask.prometheus}/api/v1/${path}?${parameters}`)).json();
  if (found.status !== 'success') {
    throw new Error(`${query}: ${found.error}`);
  }
  return found.data.result;
}

const series = (target: any, found: any[]): DataFrame[] =>
  found.map((one) => {
    const points = one.values ?? [one.value];
    return toDataFrame({
      refId: target.refId,
      fields: [
        { name: 'Time', type: FieldType.time, values: points.map((point: any) => point[0] * 1000) },
        {
          name: named(target.legendFormat, one.metric),
          type: FieldType.number,
          values: points.map((point: any) => Number(point[1])),
        },
      ],
    });
  });

/** One frame a target: a column a label, and the value. */
const rows = (target: any, found: any[], alone: boolean): DataFrame[] => {
  const labels = [...new Set(found.flatMap((one) => Object.keys(one.metric)))];
  const text = (name: string) => ({ name, type: FieldType.string, values: found.map((one) => one.metric[name] ?? '') });
  const value = alone ? 'Value' : `Value #${target.refId}`;
  return found.length
    ? [
        toDataFrame({
          refId: target.refId,
          fields: [
            { name: 'Time', type: FieldType.time, values: found.map((one) => one.value[0] * 1000) },
            ...labels.map(text),
            { name: value, type: FieldType.number, values: found.map((one) => Number(one.value[1])) },
          ],
        }),
      ]
    : [];
};

function configure(frame: DataFrame, panel: any, theme: GrafanaTheme2, place: number) {
  for (const field of frame.fields) {
    const shown = field.config.displayName ?? field.name;
    const config = structuredClone({ ...panel.fieldConfig?.defaults, ...field.config });
    for (const override of panel.fieldConfig?.overrides ?? []) {
      if (override.matcher.options === shown) {
        for (const { id, value } of override.properties) {
          const path = id.split('.');
          const last = path.pop();
          path.reduce((at: any, key: string) => (at[key] ??= {}), config)[last] = value;
        }
      }
    }
    field.config = field.type === FieldType.number ? config : { ...field.config, custom: config.custom };
    field.state = { seriesIndex: place };
    field.display = getDisplayProcessor({ field, theme, timeZone: 'utc' });
  }
}

/** The frames that a panel draws; none: it is empty. */
export async function frames(panel: any, ask: Ask, theme: GrafanaTheme2): Promise<DataFrame[]> {
  const answers = await Promise.all(panel.targets.map((target: any) => answer(ask, target)));
  let found: DataFrame[];
  if (panel.type === 'table') {
    found = panel.targets.flatMap((target: any, i: number) => rows(target, answers[i], panel.targets.length === 1));
    found = await lastValueFrom(transformDataFrame(panel.transformations, found));
    found = found.filter((frame) => frame.length > 0);
  } else {
    found = panel.targets.flatMap((target: any, i: number) => series(target, answers[i]));
  }
  found.forEach((frame, place) => configure(frame, panel, theme, place));
  return found;
}

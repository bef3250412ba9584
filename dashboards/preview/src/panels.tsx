// Panels that Grafana's packages have no component for, and the choice of a component by a panel's type.
import React from 'react';
import { dateTime, DataFrame, formattedValueToString, GrafanaTheme2, TimeRange } from '@grafana/data';
import { LegendDisplayMode } from '@grafana/schema';
import { BigValue, BigValueColorMode, BigValueGraphMode, TimeSeries } from '@grafana/ui';
import { Span } from './data';

type Size = { width: number; height: number };

const shown = (frame: DataFrame) => frame.fields[frame.fields.length - 1];

function Stat({ frames, width, height, theme }: Size & { frames: DataFrame[]; theme: GrafanaTheme2 }) {
  const field = shown(frames[0]);
  return (
    <BigValue
      width={width}
      height={height}
      theme={theme}
      value={field.display!(field.values[field.values.length - 1])}
      colorMode={BigValueColorMode.Value}
      graphMode={BigValueGraphMode.None}
    />
  );
}

/** Grafana's table is a plugin of the server; its columns and formatted values are drawn here. */
function Rows({ frame, width, height, theme }: Size & { frame: DataFrame; theme: GrafanaTheme2 }) {
  const cell = { padding: '3px 8px', textAlign: 'left', borderBottom: `1px solid ${theme.colors.border.weak}` } as const;
  return (
    <div style={{ width, height, overflow: 'hidden', fontSize: 12 }}>
      <table style={{ width: '100%', borderCollapse: 'collapse' }}>
        <thead>
          <tr>
            {frame.fields.map((field) => (
              <th key={field.name} style={{ ...cell, color: theme.colors.text.link }}>
                {field.config.displayName ?? field.name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {Array.from({ length: Math.min(frame.length, 40) }, (_, row) => (
            <tr key={row}>
              {frame.fields.map((field) => (
                <td key={field.name} style={cell}>
                  {field.values[row] == null ? '–' : formattedValueToString(field.display!(field.values[row]))}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** Grafana's state-timeline is a plugin of the server; bars of the same kind are drawn here. */
function States({ frames, span, width, theme }: Size & { frames: DataFrame[]; span: Span; theme: GrafanaTheme2 }) {
  const at = (time: number) => ((time / 1000 - span.from) / (span.to - span.from)) * 100;
  return (
    <div style={{ width, overflow: 'hidden' }}>
      {frames.slice(0, 6).map((frame) => {
        const [times, values] = frame.fields;
        const step = times.values.length > 1 ? times.values[1] - times.values[0] : 60_000;
        return (
          <div key={values.name} style={{ display: 'flex', height: 20, alignItems: 'center', gap: 6 }}>
            <div style={{ width: 190, fontSize: 11, whiteSpace: 'nowrap', overflow: 'hidden', textOverflow: 'ellipsis' }}>
              {values.name}
            </div>
            <div style={{ position: 'relative', flex: 1, height: 14, background: theme.colors.background.secondary }}>
              {times.values.map((time: number, i: number) =>
                values.values[i] >= 1 ? (
                  <div
                    key={time}
                    style={{
                      position: 'absolute',
                      left: `${at(time)}%`,
                      width: `${at(time + step) - at(time) + 0.05}%`,
                      height: '100%',
                      background: theme.visualization.getColorByName('orange'),
                    }}
                  />
                ) : null
              )}
            </div>
          </div>
        );
      })}
    </div>
  );
}

export function Body(props: Size & { kind: string; frames: DataFrame[]; span: Span; theme: GrafanaTheme2 }) {
  const { kind, frames, span, theme, ...size } = props;
  if (!frames.length) {
    return <div style={{ color: theme.colors.text.secondary }}>No data</div>;
  }
  if (kind === 'stat') {
    return <Stat {...size} frames={frames} theme={theme} />;
  }
  if (kind === 'table') {
    return <Rows {...size} frame={frames[0]} theme={theme} />;
  }
  if (kind === 'state-timeline') {
    return <States {...size} frames={frames} span={span} theme={theme} />;
  }
  const range: TimeRange = {
    from: dateTime(span.from * 1000),
    to: dateTime(span.to * 1000),
    raw: { from: dateTime(span.from * 1000), to: dateTime(span.to * 1000) },
  };
  const legend: any = { displayMode: LegendDisplayMode.List, placement: 'bottom', showLegend: true, calcs: [] };
  return <TimeSeries {...size} frames={frames} timeRange={range} timeZone="utc" legend={legend} structureRev={1} />;
}

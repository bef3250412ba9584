// Draws one dashboard file with Grafana's own packages (Apache-2.0), from a Prometheus, without a Grafana server.
// Parameters: board (address of the file), prometheus, model, pool, interval ($__rate_interval), back and ahead (seconds).
// When all is drawn, window.preview says which panels are empty and what went wrong.
import React from 'react';
import { createRoot } from 'react-dom/client';
import { createTheme, ThemeContext } from '@grafana/data';
import { GlobalStyles, PanelChrome } from '@grafana/ui';
import { Ask, filled, frames } from './data';
import { Body } from './panels';

const WIDTH = 1536;
const ROW = 38;
const theme = createTheme({ colors: { mode: 'dark' } });
const given = new URLSearchParams(location.search);

async function main() {
  const board = await (await fetch(given.get('board')!)).json();
  const now = Math.floor(Date.now() / 1000);
  const span = { now, from: now - Number(given.get('back') ?? 10_800), to: now + Number(given.get('ahead') ?? 0) };
  const variables = { model: given.get('model') ?? '.*', pool: given.get('pool') ?? '.*', __rate_interval: given.get('interval') ?? '1m' };
  const ask: Ask = { prometheus: given.get('prometheus')!, span, variables };
  const errors: string[] = [];
  const drawn = [];
  for (const panel of board.panels) {
    try {
      drawn.push({ panel, data: panel.type === 'row' ? [] : await frames(panel, ask, theme) });
    } catch (error) {
      errors.push(`${panel.title}: ${error}`);
      drawn.push({ panel, data: [] });
    }
  }
  const unit = WIDTH / 24;
  const height = Math.max(...board.panels.map((p: any) => (p.gridPos.y + p.gridPos.h) * ROW));
  createRoot(document.getElementById('root')!).render(
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <div style={{ position: 'relative', width: WIDTH, height, color: theme.colors.text.primary }}>
        {drawn.map(({ panel, data }) => {
          const [w, h] = [panel.gridPos.w * unit - 8, panel.gridPos.h * ROW - 8];
          const place: any = { position: 'absolute', left: panel.gridPos.x * unit, top: panel.gridPos.y * ROW, padding: 4 };
          const title = filled(panel.title, variables);
          return (
            <div key={panel.id} style={place}>
              {panel.type === 'row' ? (
                <div style={{ fontSize: 16, padding: 4 }}>{title}</div>
              ) : (
                <PanelChrome title={title} width={w} height={h}>
                  {(width: number, height: number) => (
                    <Body kind={panel.type} frames={data} span={span} theme={theme} width={width} height={height} />
                  )}
                </PanelChrome>
              )}
            </div>
          );
        })}
      </div>
    </ThemeContext.Provider>
  );
  const empty = drawn.filter(({ panel, data }) => panel.type !== 'row' && !data.length).map(({ panel }) => panel.title);
  (window as any).preview = { empty, errors, height, panels: drawn.filter(({ panel }) => panel.type !== 'row').length };
}

main().catch((error) => ((window as any).preview = { empty: [], errors: [String(error)], height: 0, panels: 0 }));

// A worker that lays out a graph, so that the page stays quick while it does.
"use strict";
onmessage = (event) => {
  const { dagre: library, nodes, edges } = event.data;
  importScripts(library);
  const graph = new dagre.graphlib.Graph();
  graph.setGraph({ ranksep: 28, nodesep: 18, marginx: 12, marginy: 12, ranker: nodes.length > 150 ? "longest-path" : "network-simplex" });
  graph.setDefaultEdgeLabel(() => ({}));
  nodes.forEach((node, at) => graph.setNode(String(at), { ...node }));
  edges.forEach(([from, to]) => graph.setEdge(String(from), String(to)));
  dagre.layout(graph);
  const whole = graph.graph();
  postMessage({
    width: whole.width, height: whole.height,
    nodes: nodes.map((_, at) => { const { x, y } = graph.node(String(at)); return { x, y }; }),
    edges: graph.edges().map((edge) => graph.edge(edge).points.map(({ x, y }) => [x, y])),
  });
};

package logs

import "bytes"

// lines delivers a batch to Options.Lines, line by line.
func (h *Hub) lines(p *batch) {
	b, start := p.data, 0
	for _, s := range p.spans {
		part := b[start:s.end]
		start = s.end
		for len(part) > 0 {
			line := part
			i := bytes.IndexByte(part, '\n')
			if i < 0 {
				if s.more {
					// A copy: what follows in the batch is somebody else's.
					line = append(bytes.Clone(line), Continues...)
				}
				part = nil
			} else {
				line, part = part[:i], part[i+1:]
			}
			h.options.Lines(s.worker, line)
		}
	}
}

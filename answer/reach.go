// SPDX-License-Identifier: Apache-2.0

package answer

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"sconce.dev/sconce/facts/network"
	"sconce.dev/sconce/object"
)

// Reach is whether one thing reaches another, or what reaches what.
type Reach struct {
	Source
	// From and To are as they were asked for; empty where they were not.
	From string `json:"fromAsked,omitempty"`
	To   string `json:"toAsked,omitempty"`
	Port string `json:"port,omitempty"`
	// Verdict is yes, no, partly (some of several do) or unknown, where both
	// ends were named.
	Verdict string `json:"verdict,omitempty"`
	// Pairs are the ends between which a connection may be.
	Pairs []Pair `json:"pairs"`
	// Ways are the ways in from outside, where one end is the outside.
	Ways    []Way    `json:"ways,omitempty"`
	Unknown []string `json:"unknown"`
}

// The verdicts.
const (
	yes     = "yes"
	no      = "no"
	partly  = "partly"
	unclear = "unknown"
)

// Pair is two ends.
type Pair struct {
	From End `json:"from"`
	To   End `json:"to"`
	// Verdict is of the port that was asked for, else of any.
	Verdict string `json:"verdict"`
	// Ports are those on which connections are surely allowed.
	// Possible are those, and those of which it is not known, where these are more.
	Ports    string `json:"ports,omitempty"`
	Possible string `json:"possible,omitempty"`
	// Decisions say who decides, a port at a time.
	Decisions []Decision `json:"decisions,omitempty"`
}

// Decision is who decides about a port.
type Decision struct {
	Port    string           `json:"port"`
	Verdict string           `json:"verdict"`
	Unknown string           `json:"unknown,omitempty"`
	Egress  network.Decision `json:"egress"`
	Ingress network.Decision `json:"ingress"`
}

// End is what connects, or is connected to.
type End struct {
	// Outside is set for what is not in the cluster.
	Outside   string `json:"outside,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Workload  string `json:"workload,omitempty"`
	Pods      int    `json:"pods,omitempty"`

	peer network.Peer
}

// name is the end in words.
func (e *End) name() string {
	switch {
	case e.Outside != "":
		return e.Outside
	case e.Namespace == "":
		return e.Workload
	}
	return e.Namespace + "/" + e.Workload
}

func endOf(c *network.Class) End {
	return End{Namespace: c.Namespace, Workload: c.Workload, Pods: c.Pods, peer: network.Peer{Class: c}}
}

// internet is what is outside the cluster, whatever its address.
const internet = "internet"

// ends returns what somebody means: the internet, an address, or pods.
func ends(m *network.Model, what string) ([]End, error) {
	switch lower := strings.ToLower(what); {
	case slices.Contains([]string{internet, "outside", "external", "world"}, lower):
		return []End{{Outside: internet}}, nil
	case Anything(what):
		out := []End{{Outside: internet}}
		for _, c := range m.Classes() {
			out = append(out, endOf(c))
		}
		return out, nil
	}
	if prefix, err := netip.ParsePrefix(what); err == nil {
		return []End{{Outside: prefix.Masked().String(), peer: network.Peer{CIDR: prefix.Masked()}}}, nil
	}
	if addr, err := netip.ParseAddr(what); err == nil {
		return []End{{Outside: addr.String(), peer: network.Peer{CIDR: netip.PrefixFrom(addr, addr.BitLen())}}}, nil
	}
	classes, err := m.Find(what)
	if err != nil {
		return nil, err
	}
	var out []End
	for _, c := range classes {
		out = append(out, endOf(c))
	}
	return out, nil
}

// asked is a port as somebody asks for it: a number, or a name that pods give
// to one.
type asked struct {
	protocol, name string
	number         int32
	set            bool
}

// askPort reads 443, tcp/443, 53/udp and http.
func askPort(s string) (asked, error) {
	if s == "" {
		return asked{}, nil
	}
	a := asked{protocol: network.TCP, set: true}
	what := s
	if x, y, ok := strings.Cut(s, "/"); ok {
		if isProtocol(y) {
			x, y = y, x
		}
		if !isProtocol(x) {
			return a, fmt.Errorf("--port %q: %q is no protocol; want tcp, udp or sctp, as in udp/53", s, x)
		}
		a.protocol, what = strings.ToUpper(x), y
	}
	n, err := strconv.Atoi(what)
	switch {
	case err == nil && (n < 1 || n > 65535):
		return a, fmt.Errorf("--port %q: ports are from 1 to 65535", s)
	case err == nil:
		a.number = int32(n)
	case what == "" || strings.ContainsAny(what, " ,:"):
		return a, fmt.Errorf("--port %q is no port; want one like 443, udp/53 or the name http", s)
	default:
		a.name = what
	}
	return a, nil
}

func isProtocol(s string) bool {
	return slices.Contains([]string{network.TCP, network.UDP, network.SCTP}, strings.ToUpper(s))
}

// of returns the ports of an end that are meant.
func (a *asked) of(to End) []network.Port {
	if a.name == "" {
		return []network.Port{{Protocol: a.protocol, Number: a.number}}
	}
	var out []network.Port
	if c := to.peer.Class; c != nil {
		for _, p := range c.Ports {
			if p.Name == a.name {
				out = append(out, p)
			}
		}
	}
	return out
}

// most is how many pairs are told one by one.
const most = 100_000

// AskReach answers whether what is called from reaches what is called to; where
// one of them is empty, what it reaches or what reaches it.
func AskReach(m *network.Model, src Source, from, to, port string) (*Reach, error) {
	a := &Reach{Source: src, From: from, To: to, Port: port, Unknown: m.Limits(), Pairs: []Pair{}}
	wanted, err := askPort(port)
	if err != nil {
		return nil, err
	}
	sources, err := ends(m, cmp.Or(from, "any"))
	if err != nil {
		return nil, fmt.Errorf("from %q: %w", from, err)
	}
	targets, err := ends(m, cmp.Or(to, "any"))
	if err != nil {
		return nil, fmt.Errorf("to %q: %w", to, err)
	}
	if n := len(sources) * len(targets); n > most {
		return nil, fmt.Errorf("%q and %q are %d pairs of workloads: name less, or neither for a summary by namespace", from, to, n)
	}
	detailed := len(sources)*len(targets) <= 4
	for _, s := range sources {
		for _, t := range targets {
			if s.Outside != "" && t.Outside != "" {
				continue
			}
			pair, err := pairOf(m, s, t, wanted, detailed)
			if err != nil && detailed {
				return nil, err
			}
			if err != nil || (from == "" || to == "") && pair.Verdict == no {
				continue
			}
			a.Pairs = append(a.Pairs, pair)
			for _, d := range pair.Decisions {
				a.Unknown = append(a.Unknown, d.Unknown)
			}
		}
	}
	a.Unknown = distinct(a.Unknown)
	if from != "" && to != "" {
		if len(a.Pairs) == 0 {
			return nil, fmt.Errorf("from %q to %q: neither is in the cluster, or they declare no port called %q", from, to, port)
		}
		a.Verdict = together(a.Pairs)
	}
	if slices.ContainsFunc(sources, func(e End) bool { return e.Outside == internet }) && to != "" {
		a.Ways = waysTo(m, targets)
	}
	return a, nil
}

// together is the verdict on several pairs.
func together(pairs []Pair) string {
	count := map[string]int{}
	for _, p := range pairs {
		count[p.Verdict]++
	}
	switch {
	case count[yes] == len(pairs):
		return yes
	case count[yes]+count[partly] > 0:
		return partly
	case count[unclear] > 0:
		return unclear
	}
	return no
}

// pairOf says whether one end reaches another, and who decides.
func pairOf(m *network.Model, from, to End, wanted asked, detailed bool) (Pair, error) {
	set := m.Ports(from.peer, to.peer)
	out := Pair{From: from, To: to, Ports: portsText(set)}
	ports := wanted.of(to)
	switch {
	case wanted.set && len(ports) == 0:
		return out, fmt.Errorf("%s declares no port called %q%s", to.name(), wanted.name, declared(to))
	case !wanted.set:
		ports = telling(to, set)
	}
	verdicts := map[string]int{}
	for _, port := range ports {
		v := m.Connects(from.peer, to.peer, port)
		d := Decision{Port: portText(port), Verdict: verdictOf(&v), Unknown: v.Unknown, Egress: v.Egress, Ingress: v.Ingress}
		verdicts[d.Verdict]++
		if detailed || d.Verdict == unclear {
			out.Decisions = append(out.Decisions, d)
		}
	}
	possible := m.PossiblePorts(from.peer, to.peer)
	if !possible.Equal(set) {
		out.Possible = portsText(possible)
	}
	if out.Verdict = ofPorts(verdicts, len(ports)); !wanted.set {
		out.Verdict = ofSets(set, possible)
	}
	return out, nil
}

// ofPorts is the verdict on several ports, given how many have which.
func ofPorts(verdicts map[string]int, ports int) string {
	switch {
	case verdicts[yes] == ports:
		return yes
	case verdicts[yes]+verdicts[partly] > 0:
		return partly
	case verdicts[unclear] > 0:
		return unclear
	}
	return no
}

// ofSets is the verdict on any port, given those that are surely let through, and
// those that may be.
func ofSets(sure, possible network.PortSet) string {
	switch {
	case !sure.Empty():
		return yes
	case !possible.Empty():
		return unclear
	}
	return no
}

// declared says which ports an end declares.
func declared(e End) string {
	if e.peer.Class == nil {
		return "; name a number"
	}
	var all []string
	for _, p := range e.peer.Class.Ports {
		all = append(all, portText(p))
	}
	if len(all) == 0 {
		return "; it declares none"
	}
	return "; it declares " + strings.Join(some(all, 2*maxLines), ", ")
}

// telling are the ports of which it is told who decides where none was asked
// for: those that the target declares, else one that is let through, else any.
func telling(to End, allowed network.PortSet) []network.Port {
	if c := to.peer.Class; c != nil && len(c.Ports) > 0 {
		return c.Ports[:min(len(c.Ports), maxLines)]
	}
	for _, p := range []int32{443, 80, 8080} {
		if port := (network.Port{Protocol: network.TCP, Number: p}); allowed.Contains(port) {
			return []network.Port{port}
		}
	}
	return []network.Port{{Protocol: network.TCP, Number: 80}}
}

// portsText says which ports are in a set; nothing for none.
func portsText(s network.PortSet) string {
	switch {
	case s.Empty():
		return ""
	case s.All():
		return "all ports"
	}
	return s.String()
}

func portText(p network.Port) string {
	s := p.String()
	if p.Name != "" {
		s += " (" + p.Name + ")"
	}
	return s
}

func verdictOf(v *network.Verdict) string {
	switch {
	case v.Allowed && v.Partly:
		return partly
	case v.Allowed:
		return yes
	case v.Unknown != "":
		return unclear
	}
	return no
}

// Text implements Answer.
func (a *Reach) Text(p *Page) {
	switch {
	case a.From != "" && a.To != "":
		a.textVerdict(p)
	case a.From != "":
		a.list(p, "what "+a.From+" reaches", "TO", func(x *Pair) *End { return &x.To })
	default:
		a.list(p, "what reaches "+a.To, "FROM", func(x *Pair) *End { return &x.From })
	}
	if len(a.Ways) > 0 {
		p.heading("ways in from outside")
		wayTable(p, a.Ways)
	} else if a.From == internet || a.To != "" && slices.ContainsFunc(a.Pairs, func(x Pair) bool { return x.From.Outside == internet }) {
		p.line("")
		p.prose(0, "", "no Service, Ingress, route, host port or host network that is known makes a way in from outside")
	}
	a.footer(p, a.Unknown)
}

func (a *Reach) textVerdict(p *Page) {
	what := a.From + " → " + a.To
	if a.Port != "" {
		what += " on " + a.Port
	}
	p.line("%s  %s", p.verdict(a.Verdict), visible(what))
	if len(a.Pairs) == 1 || len(a.Pairs[0].Decisions) > 0 && len(a.Pairs) <= maxLines {
		for i := range a.Pairs {
			a.Pairs[i].detail(p, len(a.Pairs) > 1 || len(a.Pairs[i].Decisions) > 1)
		}
		return
	}
	var rows []row
	for i := range a.Pairs {
		x := &a.Pairs[i]
		rows = append(rows, row{cells: []cell{text(x.From.name()), text(x.To.name()), x.verdict(), x.ports()}})
	}
	p.line("")
	p.table([]string{"FROM", "TO", "", "ON"}, rows[:min(len(rows), maxRows)])
	p.more(len(rows)-maxRows, "pair", "pairs")
}

// maxRows is how many rows of a table are printed; JSON has all.
const maxRows = 200

// more says that not all rows were printed.
func (p *Page) more(n int, one, many string) {
	if n > 0 {
		p.line("%s", p.in(dim, "and "+count(n, one, many)+" more; -o json lists them all"))
	}
}

// verdict returns a verdict in its colour.
func (p *Page) verdict(v string) string {
	return p.in(map[string]string{yes: good, no: bad, partly: doubt, unclear: doubt}[v], v)
}

func (x *Pair) verdict() cell {
	return text(x.Verdict).in(map[string]string{yes: good, no: bad, partly: doubt, unclear: doubt}[x.Verdict])
}

// ports says which ports are let through, and may be.
func (x *Pair) ports() cell {
	out := text(cmp.Or(x.Ports, "none"))
	if x.Possible != "" {
		out = append(out, span{text: "possible: " + x.Possible, code: doubt})
	}
	return out
}

// detail prints who decides about a pair.
func (x *Pair) detail(p *Page, named bool) {
	if named {
		p.line("")
		p.line("%s  %s → %s", p.verdict(x.Verdict), visible(x.From.name()), visible(x.To.name()))
	}
	p.prose(2, "allowed: ", cmp.Or(x.Ports, "no port"))
	if x.Possible != "" {
		p.coloured(doubt, 2, "possible: ", x.Possible)
	}
	for i := range x.Decisions {
		d := &x.Decisions[i]
		p.line("  %s: %s", visible(d.Port), p.verdict(d.Verdict))
		p.decision("out of "+x.From.name(), &d.Egress)
		p.decision("into "+x.To.name(), &d.Ingress)
		if d.Unknown != "" {
			p.coloured(doubt, 4, "not known: ", d.Unknown)
		}
	}
}

// decision prints who decides at one end.
func (p *Page) decision(where string, d *network.Decision) {
	verdict := no
	switch {
	case d.Allowed:
		verdict = yes
	case d.Unknown != "":
		verdict = unclear
	}
	if len(d.By) == 0 {
		return
	}
	p.line("    %s: %s", visible(where), p.verdict(verdict))
	for _, r := range d.By[:min(len(d.By), 2*maxLines)] {
		p.placed(plain, 6, "", r.Words, at(r.Position))
	}
	p.more(len(d.By)-2*maxLines, "reason", "reasons")
}

// reason says who decides, and where that stands.
func reason(r network.Reason) string {
	if place := at(r.Position); place != "" {
		return r.Words + "  " + place
	}
	return r.Words
}

// list prints the ends of pairs: whole namespaces together where all of it has
// the same ports.
func (a *Reach) list(p *Page, title, column string, end func(*Pair) *End) {
	if a.Port != "" {
		title += " on " + a.Port
	}
	if len(a.Pairs) == 0 {
		p.heading("%s: nothing that is known", title)
		return
	}
	other := "FROM"
	otherEnd := func(x *Pair) *End { return &x.From }
	if column == "FROM" {
		other, otherEnd = "TO", func(x *Pair) *End { return &x.To }
	}
	groups := map[[5]string][]string{}
	var order [][5]string
	for i := range a.Pairs {
		x := &a.Pairs[i]
		k := [5]string{otherEnd(x).name(), cmp.Or(end(x).Outside, name(end(x).Namespace)), x.Verdict, x.Ports, x.Possible}
		if end(x).Outside == "" {
			groups[k] = append(groups[k], end(x).Workload)
		} else {
			groups[k] = append(groups[k], "")
		}
		if len(groups[k]) == 1 {
			order = append(order, k)
		}
	}
	several := slices.ContainsFunc(order, func(k [5]string) bool { return k[0] != order[0][0] })
	headings := []string{column, "WORKLOADS", "", "ON"}
	if several {
		headings = append([]string{other}, headings...)
	}
	var rows []row
	for _, k := range order {
		x := Pair{Verdict: k[2], Ports: k[3], Possible: k[4]}
		cells := []cell{text(k[1]), text(some(groups[k], 2*maxLines)...), x.verdict(), x.ports()}
		if several {
			cells = append([]cell{text(k[0])}, cells...)
		}
		rows = append(rows, row{cells: cells})
	}
	p.heading("%s: %s", title, count(len(a.Pairs), "way", "ways"))
	p.table(headings, rows[:min(len(rows), maxRows)])
	p.more(len(rows)-maxRows, "row", "rows")
}

// Exposed is all ways in from outside.
type Exposed struct {
	Source
	// Of is what they were asked of; empty for all.
	Of      string   `json:"of,omitempty"`
	Ways    []Way    `json:"ways"`
	Unknown []string `json:"unknown"`
}

// Way is a way in from outside to the pods of a workload.
type Way struct {
	Namespace string       `json:"namespace,omitempty"`
	Workload  string       `json:"workload"`
	Port      network.Port `json:"port"`
	Way       network.Way  `json:"way"`
	// Open is the port that is open to the outside; 0 where it is not known.
	Open    int32            `json:"open,omitempty"`
	Host    string           `json:"host,omitempty"`
	Sources []string         `json:"sources,omitempty"`
	Via     []object.Ref     `json:"via,omitempty"`
	Verdict string           `json:"verdict"`
	By      []network.Reason `json:"by,omitempty"`
	Unknown string           `json:"unknown,omitempty"`
}

// AskExposure answers which ways there are in from outside, to what is named or
// to anything.
func AskExposure(m *network.Model, src Source, of string) (*Exposed, error) {
	a := &Exposed{Source: src, Of: of, Unknown: distinct(m.Limits()), Ways: []Way{}}
	targets, err := ends(m, cmp.Or(of, "any"))
	if err != nil {
		return nil, fmt.Errorf("to %q: %w", of, err)
	}
	a.Ways = append(a.Ways, waysTo(m, targets)...)
	return a, nil
}

// waysTo are the ways in to some of the ends.
func waysTo(m *network.Model, to []End) []Way {
	wanted := map[*network.Class]bool{}
	for _, e := range to {
		wanted[e.peer.Class] = true
	}
	var out []Way
	for _, e := range m.Exposures() {
		if e.Class == nil || !wanted[e.Class] {
			continue
		}
		w := Way{
			Namespace: e.Class.Namespace, Workload: e.Class.Workload, Port: e.Port, Way: e.Way, Open: e.Outside, Host: e.Host,
			Sources: e.Sources, Via: e.Via, By: e.By, Unknown: e.Unknown, Verdict: no,
		}
		switch {
		case e.Allowed:
			w.Verdict = yes
		case e.Unknown != "":
			w.Verdict = unclear
		}
		out = append(out, w)
	}
	return out
}

// Text implements Answer.
func (a *Exposed) Text(p *Page) {
	if len(a.Ways) == 0 {
		p.heading("%s", strings.TrimSpace("no way in from outside is known "+prefixed("to ", a.Of)))
	} else {
		open := 0
		for _, w := range a.Ways {
			if w.Verdict != no {
				open++
			}
		}
		p.heading("%s in from outside; policies close %d", count(len(a.Ways), "way", "ways"), len(a.Ways)-open)
		wayTable(p, a.Ways)
	}
	a.footer(p, a.Unknown)
}

// wayTable prints ways in.
func wayTable(p *Page, ways []Way) {
	var rows []row
	for i := range ways[:min(len(ways), maxRows)] {
		rows = append(rows, ways[i].row())
	}
	p.table([]string{"WAY", "OPEN TO", "BY", "TO", "LET THROUGH"}, rows)
	p.more(len(ways)-maxRows, "way", "ways")
}

func (w *Way) row() row {
	var via []string
	for _, r := range w.Via {
		via = append(via, named(r))
	}
	open := cmp.Or(w.Host, "any host")
	if w.Open != 0 {
		open += ":" + strconv.Itoa(int(w.Open))
	}
	from := text(open)
	if len(w.Sources) > 0 {
		from = append(from, span{text: "from " + strings.Join(some(w.Sources, maxLines), ", ")})
	}
	target := w.Workload
	if w.Namespace != "" {
		target = w.Namespace + "/" + target
	}
	port := portText(w.Port)
	if w.Port.Number == 0 {
		port = "all ports"
	}
	var below cell
	for _, r := range w.By[:min(len(w.By), maxLines)] {
		below = append(below, span{r.Words, dim, at(r.Position)})
	}
	if w.Unknown != "" {
		below = append(below, span{text: "not known: " + w.Unknown, code: doubt})
	}
	verdict := Pair{Verdict: w.Verdict}
	return row{[]cell{text(string(w.Way)), from, text(via...), text(target, port), verdict.verdict()}, below}
}

// CheckPort says what is wrong with a port as somebody asks for it.
func CheckPort(s string) error {
	_, err := askPort(s)
	return err
}

// Anything says whether somebody means all that there is.
func Anything(what string) bool {
	return slices.Contains([]string{"any", "all", "*"}, strings.ToLower(what))
}

// Yes says that everything that was asked for surely is so.
func (a *Reach) Yes() bool { return a.Verdict == yes }

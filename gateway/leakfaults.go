//go:build leakfaults

package gateway

import (
	"weak"

	"holdfast/ocpp"
)

// Conns returns the connections of a security profile, each as a function that
// returns it once it was closed, unless it was collected: a fault keeps it.
func (g *Gateway) Conns(profile ocpp.SecurityProfile) []func() any {
	var list []func() any
	for _, c := range g.all() {
		if c.profile != profile {
			continue
		}
		p := weak.Make(c)
		list = append(list, func() any {
			c := p.Value()
			if c == nil {
				return nil
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			if !c.gone {
				return nil
			}
			return c
		})
	}
	return list
}

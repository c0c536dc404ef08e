//go:build !unix

package fleet

// readable waits until there is something to read, or the read deadline passes.
func (c *conn) readable() error {
	if c.hasAhead {
		return nil
	}
	n, err := c.nc.Read(c.ahead[:])
	c.hasAhead = n == 1
	return err
}

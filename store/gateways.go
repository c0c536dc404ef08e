package store

import "context"

// Gateways returns the gateways that the record shows stations on.
func (c *CSMS) Gateways(ctx context.Context) ([]string, error) {
	rows, err := c.read.QueryContext(ctx, `SELECT DISTINCT gateway FROM station_state WHERE connected`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []string
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		list = append(list, id)
	}
	return list, rows.Err()
}

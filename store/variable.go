package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"holdfast/ocpp"
)

// maxVariables is the most variable attributes that are kept of one station.
const maxVariables = 10_000

// VariableKey names an attribute of a variable of OCPP 2.x. A configuration key
// of OCPP 1.6 is a variable without a component.
type VariableKey struct {
	Component         string `json:"component,omitempty"`
	ComponentInstance string `json:"component_instance,omitempty"`
	EVSE              int    `json:"evse,omitempty"`
	Connector         int    `json:"connector,omitempty"`
	Variable          string `json:"variable"`
	VariableInstance  string `json:"variable_instance,omitempty"`
	Attribute         string `json:"attribute" enum:"Actual,Target,MinSet,MaxSet"`
}

// Variable is what is known of an attribute of a variable.
type Variable struct {
	Station ocpp.StationID `json:"station"`
	VariableKey
	Value           string          `json:"value"`
	Mutability      string          `json:"mutability,omitempty"`
	DataType        string          `json:"data_type,omitempty"`
	Characteristics json.RawMessage `json:"characteristics,omitempty" doc:"variableCharacteristics as the station sent them"`
	ReceivedAt      time.Time       `json:"received_at,omitzero"`
}

// SetVariables records attributes of a station's variables. An empty mutability,
// data type or characteristics keeps what is known. Attributes beyond the first
// 10,000 of a station are not recorded; dropped counts them.
func (c *CSMS) SetVariables(ctx context.Context, station ocpp.StationID, variables []Variable) (dropped int, err error) {
	key := station.Fold()
	err = c.update(ctx, key, func(tx *Tx) error {
		dropped = 0
		var kept int
		if err := tx.row(false, `SELECT count(*) FROM variable WHERE station = $1`, []any{key}, &kept); err != nil {
			return err
		}
		for _, v := range variables {
			id := []any{key, v.Component, v.ComponentInstance, v.EVSE, v.Connector, v.Variable, v.VariableInstance, v.Attribute}
			n, err := tx.exec(`UPDATE variable SET value = $9, received_at = $10,
					mutability = CASE WHEN $11 = '' THEN mutability ELSE $11 END,
					data_type = CASE WHEN $12 = '' THEN data_type ELSE $12 END,
					characteristics = CASE WHEN $13 = '' THEN characteristics ELSE $13 END
				WHERE station = $1 AND component = $2 AND component_instance = $3 AND evse = $4 AND connector = $5
					AND variable = $6 AND variable_instance = $7 AND attribute = $8`,
				append(id, v.Value, micros(v.ReceivedAt), v.Mutability, v.DataType, string(v.Characteristics))...)
			if err != nil {
				return err
			}
			if n > 0 {
				continue
			}
			if kept >= maxVariables {
				dropped++
				continue
			}
			kept++
			_, err = tx.exec(`INSERT INTO variable (station, component, component_instance, evse, connector, variable, variable_instance, attribute,
					value, received_at, mutability, data_type, characteristics)
				VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
				ON CONFLICT (station, component, component_instance, evse, connector, variable, variable_instance, attribute)
				DO UPDATE SET value = excluded.value, received_at = excluded.received_at`,
				append(id, v.Value, micros(v.ReceivedAt), v.Mutability, v.DataType, string(v.Characteristics))...)
			if err != nil {
				return err
			}
		}
		return nil
	})
	return dropped, err
}

// Variable returns one attribute's value; ErrNotFound if the station never told it.
func (c *CSMS) Variable(ctx context.Context, station ocpp.StationID, k VariableKey) (Variable, error) {
	row := c.read.QueryRowContext(ctx, variableQuery+` WHERE v.station = $1 AND component = $2 AND component_instance = $3 AND evse = $4 AND connector = $5
		AND variable = $6 AND variable_instance = $7 AND attribute = $8`,
		station.Fold(), k.Component, k.ComponentInstance, k.EVSE, k.Connector, k.Variable, k.VariableInstance, k.Attribute)
	v, err := scanVariable(row.Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return v, fmt.Errorf("variable %s %s of station %s: %w", k.Component, k.Variable, station, ErrNotFound)
	}
	return v, err
}

// Variables lists what is known of a station's variables, by name. With
// component set, only those of that component.
func (c *CSMS) Variables(ctx context.Context, station ocpp.StationID, component string, p Page) (List[Variable], error) {
	var k VariableKey
	k.EVSE, k.Connector = -1, -1
	if err := p.key(&k.Component, &k.ComponentInstance, &k.EVSE, &k.Connector, &k.Variable, &k.VariableInstance, &k.Attribute); err != nil {
		return List[Variable]{}, err
	}
	var w where
	w.add(`v.station = ?`, station.Fold())
	w.add(`(component, component_instance, evse, connector, variable, variable_instance, attribute) > (?, ?, ?, ?, ?, ?, ?)`,
		k.Component, k.ComponentInstance, k.EVSE, k.Connector, k.Variable, k.VariableInstance, k.Attribute)
	if component != "" {
		w.add(`component = ?`, component)
	}
	return list(ctx, c.db, p, variableQuery+w.sql(` ORDER BY component, component_instance, evse, connector, variable, variable_instance, attribute LIMIT ?`, p.limit()+1), w.args,
		func(rows *sql.Rows) (Variable, error) { return scanVariable(rows.Scan) },
		func(v Variable) []any {
			return []any{v.Component, v.ComponentInstance, v.EVSE, v.Connector, v.Variable, v.VariableInstance, v.Attribute}
		})
}

const variableQuery = `SELECT COALESCE(s.identity, v.station), component, component_instance, evse, connector, variable, variable_instance, attribute,
	value, mutability, data_type, characteristics, v.received_at
	FROM variable v LEFT JOIN station_state s ON s.station = v.station`

func scanVariable(scan func(...any) error) (v Variable, err error) {
	var received int64
	var characteristics string
	err = scan(&v.Station, &v.Component, &v.ComponentInstance, &v.EVSE, &v.Connector, &v.VariableKey.Variable, &v.VariableInstance, &v.Attribute,
		&v.Value, &v.Mutability, &v.DataType, &characteristics, &received)
	v.ReceivedAt = fromMicros(received)
	if characteristics != "" {
		v.Characteristics = json.RawMessage(characteristics)
	}
	return v, err
}

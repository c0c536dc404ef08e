package action16

import (
	"holdfast/ocpp/v16"
	"holdfast/store"
)

// getConfiguration keeps configuration keys as variables without a component.
func getConfiguration(_ *v16.GetConfigurationRequest, answer *v16.GetConfigurationResponse) []store.Variable {
	variables := make([]store.Variable, len(answer.ConfigurationKey))
	for i, k := range answer.ConfigurationKey {
		variables[i] = store.Variable{VariableKey: store.VariableKey{Variable: k.Key}, Value: k.Value, Mutability: "ReadWrite"}
		if k.Readonly {
			variables[i].Mutability = "ReadOnly"
		}
	}
	return variables
}

// Command cogschema prints what `cog build` makes of a project: its OpenAPI schema, by Cog's own
// parser, or its configuration, checked and completed.
//
//	cogschema schema FOLDER RUN_REFERENCE TRAIN_REFERENCE
//	cogschema config FOLDER
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/replicate/cog/pkg/config"
	"github.com/replicate/cog/pkg/schema"
	"github.com/replicate/cog/pkg/schema/python"
)

func main() {
	output, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Stdout.Write(output)
}

func run(arguments []string) ([]byte, error) {
	switch {
	case len(arguments) == 4 && arguments[0] == "schema":
		folder, runRef, trainRef := arguments[1], arguments[2], arguments[3]
		return schema.GenerateCombined(folder, runRef, trainRef, python.ParsePredictor)
	case len(arguments) == 2 && arguments[0] == "config":
		return completedConfig(arguments[1])
	default:
		return nil, fmt.Errorf("usage: cogschema schema FOLDER RUN TRAIN | cogschema config FOLDER")
	}
}

// completedConfig fails on what cog would refuse, and on what it would warn of.
func completedConfig(folder string) ([]byte, error) {
	file, err := os.Open(filepath.Join(folder, "cog.yaml"))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	loaded, err := config.Load(file, folder)
	if err != nil {
		return nil, err
	}
	if len(loaded.Warnings) > 0 {
		return nil, fmt.Errorf("cog.yaml: %v", loaded.Warnings)
	}
	return json.Marshal(loaded.Config)
}

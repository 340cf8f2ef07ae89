package mutate
import ("testing";"time";"fmt"
"sconce.dev/sconce/baseline"
"sconce.dev/sconce/catalog"
"sconce.dev/sconce/control"
"sconce.dev/sconce/object"
"sconce.dev/sconce/controltest"
"sconce.dev/sconce/api/v1alpha1"
"github.com/google/cel-go/parser"
"github.com/google/cel-go/common"
)
func TestScratch(t *testing.T){
 l:=baseline.NewLibrary(); catalog.Read(l)
 n:=0
 c,_:=control.New(l.Control("host-pid"),control.Options{}); c.Compile()
 for i:=0;i<2;i++{
 t0:=time.Now()
 for _,name:=range l.Controls(){ c,_:=control.New(l.Control(name),control.Options{}); if err:=c.CompileMatch();err!=nil{t.Fatal(err)}; n++}
 fmt.Println("compilematch",n,time.Since(t0))
 t0=time.Now()
 for _,name:=range l.Controls(){ f,d,_:=catalog.Fixture(l.File(name)); controltest.Run(l.Control(name),f,d)}
 fmt.Println("run",time.Since(t0))
 }
 p,err:=parser.NewParser(parser.EnableOptionalSyntax(true),parser.EnableIdentEscapeSyntax(true)); if err!=nil{t.Fatal(err)}
 for _,name:=range l.Controls(){ 
  a,es:=p.Parse(common.NewTextSource(l.Control(name).Spec.Require)); if len(es.GetErrors())>0{t.Fatal(es)}
  s,err:=parser.Unparse(a.Expr(),a.SourceInfo(), parser.WrapOnColumn(100000)); fmt.Println(s,err)
 }
 for _,e:=range []string{"object.?a.b.hasValue()","object.?a.?b.hasValue()","object.?a.b.c.orValue(7) == 7","object.?x.b.c.orValue(7)==7"}{
  k:=&v1alpha1.Control{Spec:v1alpha1.ControlSpec{Match:v1alpha1.Match{Kinds:[]v1alpha1.GroupKind{{Kind:"Pod"}}},Require:e,Message:"x"}}
  c,err:=control.New(k,control.Options{}); if err!=nil{t.Fatal(err)}
  root,_:=object.ParseYAML(object.Text{Bytes:[]byte("apiVersion: v1\nkind: Pod\nmetadata: {name: x}\na: {}\n"),Line:1})
  os,err:=object.FromNode(root,&object.Origin{}); if err!=nil{t.Fatal(err)}
  fmt.Println(e, c.Judge(os[0],nil))
 }
}
